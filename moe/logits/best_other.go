//go:build !amd64

package logits

func best() loop { return portable }
