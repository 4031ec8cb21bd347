package main

import (
	"context"
	"fmt"
	"time"

	"github.com/marlingen/marlingen/generated"
	"github.com/marlingen/marlingen/runtime"
	"github.com/marlingen/marlingen/runtime/cpu"
)

// deviceFlag chooses a device.
type deviceFlag struct {
	Device string `help:"Device to use: ${enum}." enum:"cpu" default:"cpu"`
}

// A session is an open device with the generated library.
type session struct {
	device  runtime.Device
	library runtime.Library
	load    time.Duration // what loading took
}

func (f deviceFlag) open(ctx context.Context) (*session, error) {
	var device runtime.Device = cpu.New(cpu.Options{})
	start := time.Now()
	library, err := device.Load(ctx, generated.Table, generated.Sources)
	if err != nil {
		return nil, fmt.Errorf("device %s: %w", f.Device, err)
	}
	return &session{device, library, time.Since(start)}, nil
}

// close closes what open opened. An error is of no use to anybody any more.
func (s *session) close() {
	_ = s.library.Close()
	_ = s.device.Close()
}
