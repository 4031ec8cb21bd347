package main

import (
	"context"
	"fmt"
	"io/fs"
	"time"

	"github.com/marlingen/marlingen/generated"
	"github.com/marlingen/marlingen/runtime"
	"github.com/marlingen/marlingen/runtime/cpu"
	"github.com/marlingen/marlingen/runtime/metal"
	"github.com/marlingen/marlingen/runtime/msl"
)

// deviceFlag chooses a device.
type deviceFlag struct {
	Device string `help:"Device to use: cpu, in Go; metal, an Apple GPU; msl, the generated Metal text compiled by clang for this machine." enum:"cpu,metal,msl" default:"cpu"`
}

// A session is an open device with a library.
type session struct {
	device  runtime.Device
	library runtime.Library
	load    time.Duration // what loading took
}

// open opens the device with the generated library.
func (f deviceFlag) open(ctx context.Context) (*session, error) {
	return f.session(ctx, cpu.Options{})
}

func (f deviceFlag) session(ctx context.Context, o cpu.Options) (*session, error) {
	device, err := f.device(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("device %s: %w", f.Device, err)
	}
	return newSession(ctx, device, generated.Table, generated.Sources)
}

func (f deviceFlag) device(ctx context.Context, o cpu.Options) (runtime.Device, error) {
	switch f.Device {
	case "metal":
		return metal.Open(metal.Options{Digest: generated.Manifest.Digest})
	case "msl":
		return msl.Open(ctx, msl.Options{})
	}
	return cpu.New(o), nil
}

// placeFlags choose a device and how exactly it computes.
type placeFlags struct {
	deviceFlag
	Precision string `help:"How exactly the cpu device takes what goes into experts: exact, in 30 bits; fast, in 8 bits of the largest of 128." enum:"exact,fast" default:"fast"`
}

// open opens the device with the generated library.
func (f placeFlags) open(ctx context.Context) (*session, error) {
	o := cpu.Options{Precision: cpu.Exact}
	if f.Precision == "fast" {
		o.Precision = cpu.Fast
	}
	return f.session(ctx, o)
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
