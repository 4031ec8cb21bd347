//go:build !amd64

package logits

// all returns the loops that the machine can run, by name.
func all() map[string]loops { return map[string]loops{"best": best()} }
