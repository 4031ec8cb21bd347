//go:build !amd64 && !arm64

package limits

func best() loops { return portable }
