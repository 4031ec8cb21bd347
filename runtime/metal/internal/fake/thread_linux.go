package fake

import "golang.org/x/sys/unix"

// thread returns the number of the thread.
func thread() int { return unix.Gettid() }
