package driver

import "github.com/ebitengine/purego"

// open loads the library at path, and returns what finds a function in it, or
// 0.
func open(path string) (find func(name string) uintptr, err error) {
	handle, err := purego.Dlopen(path, purego.RTLD_NOW|purego.RTLD_LOCAL)
	if err != nil {
		return nil, err
	}
	return func(name string) uintptr {
		address, err := purego.Dlsym(handle, name)
		if err != nil {
			return 0
		}
		return address
	}, nil
}

// invoke calls a C function with integers and pointers, which its caller keeps
// alive. No function that this package knows takes a float.
func invoke(function uintptr, args ...uintptr) uintptr {
	r, _, _ := purego.SyscallN(function, args...)
	return r
}
