package devicetest

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math"

	"github.com/marlingen/marlingen/runtime"
)

// A session is a queue and the buffers of its launches, which it keeps from one
// launch to the next.
type session struct {
	ctx     context.Context
	dev     runtime.Device
	lib     runtime.Library
	table   *runtime.Table
	queue   runtime.Queue
	buffers map[string]runtime.Buffer
	allowed float64 // error of sums over weights, relative to their magnitude
}

func withSession(ctx context.Context, dev runtime.Device, lib runtime.Library, table *runtime.Table, f func(*session) error) (err error) {
	queue, err := lib.NewQueue()
	if err != nil {
		return fmt.Errorf("new queue: %w", err)
	}
	s := &session{ctx: ctx, dev: dev, lib: lib, table: table, queue: queue, buffers: make(map[string]runtime.Buffer)}
	s.allowed = max(tolerance, dev.Info().Tolerance)
	defer func() {
		for name, b := range s.buffers {
			if e := b.Close(); e != nil && err == nil {
				err = fmt.Errorf("close buffer %s: %w", name, e)
			}
		}
		if e := queue.Close(); e != nil && err == nil {
			err = fmt.Errorf("close queue: %w", e)
		}
	}()
	return f(s)
}

// poison fills what a kernel must not read or write. As a float it is a NaN, as
// an index it is out of range.
const poison = 0xff

// guard is the number of poisoned bytes before an argument.
const guard = 64

// Arguments of a launch by the name of their binding.
type (
	inputs  map[string][]byte
	outputs map[string]int // sizes in bytes
	results map[string][]byte
)

// run launches k and waits. Arguments lie at an offset in buffers that may be
// larger; all that is not input is poisoned before the launch, and all that is
// not output must still be so after it.
func (s *session) run(k *runtime.Kernel, shape runtime.Shape, in inputs, out outputs) (results, error) {
	l, err := s.launch(k, shape, in, out)
	if err != nil {
		return nil, err
	}
	if err := s.queue.Launch(l); err != nil {
		return nil, fmt.Errorf("launch: %w", err)
	}
	if err := s.queue.Wait(s.ctx); err != nil {
		return nil, fmt.Errorf("wait: %w", err)
	}
	return s.results(out)
}

// launch makes a launch of k with fresh arguments.
func (s *session) launch(k *runtime.Kernel, shape runtime.Shape, in inputs, out outputs) (runtime.Launch, error) {
	return s.launchOn(k, shape, in, out, nil)
}

// launchOn is launch, with some arguments that are there already.
func (s *session) launchOn(k *runtime.Kernel, shape runtime.Shape, in inputs, out outputs, there map[string]runtime.Arg) (runtime.Launch, error) {
	l := runtime.Launch{Kernel: k, Shape: shape}
	for _, b := range k.Bindings {
		var arg runtime.Arg
		var err error
		data, isInput := in[b.Name]
		size, isOutput := out[b.Name]
		old, isThere := there[b.Name]
		switch {
		case isThere:
			arg = old
		case b.Access == runtime.Constant && b.Name == "shape":
			arg.Bytes = runtime.AppendShape(nil, shape)
		case b.Access == runtime.Constant && isInput:
			arg.Bytes = data
		case b.Access == runtime.Read && b.Name == "weights":
			arg, err = s.wrap(b.Name, data)
		case b.Access == runtime.Read && isInput:
			arg, err = s.place(b.Name, len(data), data)
		case b.Access == runtime.Write && isOutput:
			arg, err = s.place(b.Name, size, nil)
		default:
			err = fmt.Errorf("the suite has no argument %s for pass %s", b.Name, k.Pass)
		}
		if err != nil {
			return l, err
		}
		l.Args = append(l.Args, arg)
	}
	return l, nil
}

// wrap makes an argument of data in place, poison before it.
func (s *session) wrap(name string, data []byte) (runtime.Arg, error) {
	host := make([]byte, guard, guard+len(data))
	for i := range host {
		host[i] = poison
	}
	host = append(host, data...)
	if err := s.drop(name); err != nil {
		return runtime.Arg{}, err
	}
	b, err := s.dev.Wrap(host)
	if err != nil {
		return runtime.Arg{}, fmt.Errorf("wrap %d bytes for %s: %w", len(host), name, err)
	}
	s.buffers[name] = b
	return runtime.Arg{Buffer: b, Offset: guard}, nil
}

// place makes an argument of size bytes in a poisoned buffer and writes data to
// it.
func (s *session) place(name string, size int, data []byte) (runtime.Arg, error) {
	want := guard + size + guard
	if b := s.buffers[name]; b == nil || b.Size() < want {
		if err := s.drop(name); err != nil {
			return runtime.Arg{}, err
		}
		b, err := s.dev.NewBuffer(want)
		if err != nil {
			return runtime.Arg{}, fmt.Errorf("new buffer of %d bytes for %s: %w", want, name, err)
		}
		s.buffers[name] = b
	}
	b := s.buffers[name]
	content := bytes.Repeat([]byte{poison}, b.Size())
	copy(content[guard:], data)
	if n, err := b.WriteAt(content, 0); err != nil || n != len(content) {
		return runtime.Arg{}, fmt.Errorf("write %s: %d of %d bytes, %w", name, n, len(content), err)
	}
	return runtime.Arg{Buffer: b, Offset: guard}, nil
}

func (s *session) drop(name string) error {
	b := s.buffers[name]
	delete(s.buffers, name)
	if b == nil {
		return nil
	}
	if err := b.Close(); err != nil {
		return fmt.Errorf("close %s: %w", name, err)
	}
	return nil
}

// results reads the outputs of a launch and checks what surrounds them.
func (s *session) results(out outputs) (results, error) {
	r := make(results)
	for name, size := range out {
		content, err := contents(s.buffers[name])
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", name, err)
		}
		for i, b := range content {
			if inside := guard <= i && i < guard+size; !inside && b != poison {
				return nil, fmt.Errorf("argument %s: the kernel wrote at byte %d, outside its %d bytes", name, i-guard, size)
			}
		}
		r[name] = content[guard : guard+size]
	}
	return r, nil
}

// contents reads all of b.
func contents(b runtime.Buffer) ([]byte, error) {
	p := make([]byte, b.Size())
	if n, err := b.ReadAt(p, 0); n != len(p) {
		return nil, fmt.Errorf("%d of %d bytes: %w", n, len(p), err)
	}
	return p, nil
}

// nothing is a file system without files.
type nothing struct{}

func (nothing) Open(name string) (fs.File, error) {
	return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
}

// equal reports the first output in which two runs of one launch differ.
func (r results) equal(again results) error {
	var errs []error
	for name, data := range r {
		if !bytes.Equal(data, again[name]) {
			errs = append(errs, fmt.Errorf("argument %s: a second run of the same launch gave other bits", name))
		}
	}
	return errors.Join(errs...)
}

// encode returns data as a kernel receives it.
func encode(data any) []byte {
	b, err := binary.Append(nil, binary.LittleEndian, data)
	if err != nil {
		panic(err) // data is of no fixed size: a mistake of the suite
	}
	return b
}

func decodeUints(b []byte) []uint32 {
	v := make([]uint32, len(b)/4)
	for i := range v {
		v[i] = binary.LittleEndian.Uint32(b[4*i:])
	}
	return v
}

func decodeFloats(b []byte) []float32 {
	v := make([]float32, len(b)/4)
	for i := range v {
		v[i] = math.Float32frombits(binary.LittleEndian.Uint32(b[4*i:]))
	}
	return v
}
