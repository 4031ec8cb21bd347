package main

import (
	"context"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"time"

	"github.com/marlingen/marlingen/generated"
	"github.com/marlingen/marlingen/runtime"
	"github.com/marlingen/marlingen/runtime/cpu"
	"github.com/marlingen/marlingen/runtime/cuda"
	"github.com/marlingen/marlingen/runtime/metal"
	"github.com/marlingen/marlingen/runtime/msl"
)

// deviceFlag chooses a device.
type deviceFlag struct {
	Device deviceName `help:"Device to use: cpu, in Go; cuda or cuda:1, an NVIDIA GPU by its number; metal, an Apple GPU; msl, the generated Metal text compiled by clang for this machine." default:"cpu"`
}

// A deviceName is cpu, metal, msl, cuda or cuda:N.
type deviceName string

// kind returns the name without a number.
func (d deviceName) kind() string {
	kind, _, _ := strings.Cut(string(d), ":")
	return kind
}

// index returns the number of a GPU, by default 0.
func (d deviceName) index() (int, error) {
	_, number, ok := strings.Cut(string(d), ":")
	if !ok {
		return 0, nil
	}
	n, err := strconv.Atoi(number)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("%q is no number of a GPU", number)
	}
	return n, nil
}

// target returns the target that the device's kernels are tuned for.
func (d deviceName) target() string {
	if d.kind() == "cuda" {
		return runtime.CUDA
	}
	return runtime.Metal3
}

// table returns the generated kernels for the device's target.
func (d deviceName) table() *runtime.Table {
	if d.target() == runtime.CUDA {
		return generated.CUDA
	}
	return generated.Table
}

// Validate is called by kong.
func (d deviceName) Validate() error {
	if d == "cpu" || d == "metal" || d == "msl" || d.kind() == "cuda" {
		_, err := d.index()
		return err
	}
	return fmt.Errorf("must be one of cpu, cuda, cuda:N, metal, msl but got %q", string(d))
}

// A session is an open device with a library.
type session struct {
	device  runtime.Device
	table   *runtime.Table
	library runtime.Library // of table
	load    time.Duration   // what loading took
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
	return newSession(ctx, device, generated.All.On(f.Device.target(), device.Info()), generated.Sources)
}

func (f deviceFlag) device(ctx context.Context, o cpu.Options) (runtime.Device, error) {
	switch f.Device.kind() {
	case "metal":
		return metal.Open(metal.Options{Digest: generated.Manifest.Digest})
	case "msl":
		return msl.Open(ctx, msl.Options{})
	case "cuda":
		index, err := f.Device.index()
		if err != nil {
			return nil, err
		}
		return cuda.Open(cuda.Options{Index: index})
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
	return f.session(ctx, f.options())
}

func (f placeFlags) options() cpu.Options {
	if f.Precision == "fast" {
		return cpu.Options{Precision: cpu.Fast}
	}
	return cpu.Options{Precision: cpu.Exact}
}

// newSession loads a library on a device, which it closes if it cannot.
func newSession(ctx context.Context, device runtime.Device, table *runtime.Table, sources fs.FS) (*session, error) {
	start := time.Now()
	library, err := device.Load(ctx, table, sources)
	if err != nil {
		_ = device.Close()
		return nil, fmt.Errorf("device %s: %w", device.Info().Kind, err)
	}
	return &session{device, table, library, time.Since(start)}, nil
}

// close closes the session. An error is of no use to anybody any more.
func (s *session) close() {
	_ = s.library.Close()
	_ = s.device.Close()
}
