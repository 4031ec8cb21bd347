package fake

import "github.com/ebitengine/purego"

var pthreadSelf = func() uintptr {
	p, err := purego.Dlsym(purego.RTLD_DEFAULT, "pthread_self")
	if err != nil {
		panic(err) // libSystem has it
	}
	return p
}()

// thread returns what tells the thread from others.
func thread() int {
	self, _, _ := purego.SyscallN(pthreadSelf)
	return int(self)
}
