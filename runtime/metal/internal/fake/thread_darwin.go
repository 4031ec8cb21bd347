package fake

// thread returns the same for all: that pools are of one thread is checked on
// Linux only.
func thread() int { return 0 }
