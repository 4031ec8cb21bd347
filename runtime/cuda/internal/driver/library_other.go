//go:build !linux

package driver

import (
	"fmt"
	"runtime"
)

func open(string) (func(name string) uintptr, error) {
	return nil, fmt.Errorf("no CUDA on %s; it is there on linux", runtime.GOOS)
}

func invoke(uintptr, ...uintptr) uintptr { panic("driver: no library was loaded") }
