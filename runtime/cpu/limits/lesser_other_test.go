//go:build !amd64

package limits

func lesser() []loops { return nil }
