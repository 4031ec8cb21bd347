//go:build !amd64

package logits

// all returns the loops that the machine can run, by name.
func all() map[string]loop {
	return map[string]loop{"best": best()}
}
