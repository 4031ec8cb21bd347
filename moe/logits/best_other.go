//go:build !amd64

package logits

func best() loops { return portable }
