package fake

import "golang.org/x/sys/unix"

// thread returns what tells the thread from others.
func thread() int { return unix.Gettid() }
