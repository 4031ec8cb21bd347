//go:build !linux

package msl

import (
	"errors"
	"fmt"
	"net"
	"os/exec"
	goruntime "runtime"
)

// supported reports why this host cannot run what clang compiles for it.
func supported() error {
	return fmt.Errorf("msl: no device on %s/%s; it runs on linux/amd64", goruntime.GOOS, goruntime.GOARCH)
}

type memory struct{ mapped []byte }

func newMemory(int) (*memory, error)                 { return nil, errors.ErrUnsupported }
func (*memory) close() error                         { return nil }
func (*memory) send(*net.UnixConn, string) error     { return errors.ErrUnsupported }
func spawn(string) (*exec.Cmd, *net.UnixConn, error) { return nil, nil, errors.ErrUnsupported }
