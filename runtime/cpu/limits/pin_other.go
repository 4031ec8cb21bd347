//go:build !linux

package limits

// pin does nothing: the system decides where a thread runs.
func pin(int) error { return nil }
