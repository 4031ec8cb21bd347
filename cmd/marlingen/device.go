package main

import (
	"context"
	"fmt"
	"io/fs"
	"time"

	"github.com/marlingen/marlingen/generated"
	"github.com/marlingen/marlingen/runtime"
	"github.com/marlingen/marlingen/runtime/cpu"
	"github.com/marlingen/marlingen/runtime/msl"
)

// deviceFlag chooses a device.
type deviceFlag struct {
	Device string `help:"Device to use: cpu, in Go; msl, the generated Metal text compiled by clang for this machine." enum:"cpu,msl" default:"cpu"`
}

// A session is an open device with a library.
type session struct {
	device  runtime.Device
	library runtime.Library
	load    time.Duration // what loading took
}

// open opens the device with the generated library.
func (f deviceFlag) open(ctx context.Context) (*session, error) {
	device, err := f.device(ctx)
	if err != nil {
		return nil, fmt.Errorf("device %s: %w", f.Device, err)
	}
	return newSession(ctx, device, generated.Table, generated.Sources)
}

func (f deviceFlag) device(ctx context.Context) (runtime.Device, error) {
	if f.Device == "msl" {
		return msl.Open(ctx, msl.Options{})
	}
	return cpu.New(cpu.Options{}), nil
}

// newSession loads a library on a device, which it closes if it cannot.
func newSession(ctx context.Context, device runtime.Device, table *runtime.Table, sources fs.FS) (*session, error) {
	start := time.Now()
	library, err := device.Load(ctx, table, sources)
	if err != nil {
		_ = device.Close()
		return nil, fmt.Errorf("device %s: %w", device.Info().Kind, err)
	}
	return &session{device, library, time.Since(start)}, nil
}

// close closes the session. An error is of no use to anybody any more.
func (s *session) close() {
	_ = s.library.Close()
	_ = s.device.Close()
}
