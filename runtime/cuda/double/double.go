//go:build linux

// Package double builds a stand-in for the driver's library, for the tests of
// machines without a GPU: testdata/libcuda.c, which is called as the library is, and
// runs kernels on the cpu device. It is strict, and keeps what it has to
// complain of.
package double

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"unsafe"

	"github.com/ebitengine/purego"
	"github.com/stretchr/testify/require"

	"github.com/marlingen/marlingen/runtime"
	"github.com/marlingen/marlingen/runtime/cpu"
)

//go:embed testdata/libcuda.c
var source []byte

// Build compiles the double with macros defined, and returns its path, which
// ends in libcuda.so.1. Without a C compiler the test is skipped, unless
// MARLINGEN_REQUIRE_CC is set.
func Build(t testing.TB, macros ...string) string {
	t.Helper()
	cc, err := exec.LookPath("cc")
	if err != nil {
		require.Empty(t, os.Getenv("MARLINGEN_REQUIRE_CC"), "no C compiler for the double of libcuda")
		t.Skip("no C compiler for the double of libcuda")
	}
	path := filepath.Join(t.TempDir(), "libcuda.so.1")
	name := strings.Join(macros, " ")
	if library := built[name]; library != nil {
		require.NoError(t, os.WriteFile(path, library, 0o700))
		return path
	}
	args := []string{"-x", "c", "-std=gnu11", "-O1", "-Wall", "-Werror", "-shared", "-fPIC", "-o", path, "-", "-lpthread"}
	for _, m := range macros {
		args = append([]string{"-D" + m}, args...)
	}
	compile := exec.CommandContext(t.Context(), cc, args...)
	compile.Stdin = bytes.NewReader(source)
	words, err := compile.CombinedOutput()
	require.NoError(t, err, "%s", words)
	built[name], err = os.ReadFile(path)
	require.NoError(t, err)
	return path
}

// built are the doubles that were compiled, by macros. Each test has a file of
// its own, which the loader takes for another library.
var built = map[string][]byte{}

// A Double is the library, loaded into the process.
type Double struct {
	Path string

	set        func(what string, value int) int32
	complaints func() string
	early      func() int
	held       func() int
	reset      func()
}

// runner is what the kernels of all doubles are run by: callbacks are few.
var runner = sync.OnceValue(func() uintptr {
	return purego.NewCallback(func(l *launch) uintptr { return current.run(l) })
})

// current is the table that runner looks up kernels in, and its complaints.
var current executor

// New builds a double and loads it. When the test ends, there must be no
// complaints.
func New(t testing.TB, table *runtime.Table, macros ...string) *Double {
	t.Helper()
	d := &Double{Path: Build(t, macros...)}
	handle, err := purego.Dlopen(d.Path, purego.RTLD_NOW|purego.RTLD_LOCAL)
	require.NoError(t, err)
	var setRunner func(uintptr)
	purego.RegisterLibFunc(&setRunner, handle, "double_set_runner")
	purego.RegisterLibFunc(&d.set, handle, "double_set")
	purego.RegisterLibFunc(&d.complaints, handle, "double_complaints")
	purego.RegisterLibFunc(&d.early, handle, "double_early")
	purego.RegisterLibFunc(&d.held, handle, "double_held")
	purego.RegisterLibFunc(&d.reset, handle, "double_reset")
	setRunner(runner())
	current.begin(table)
	t.Cleanup(func() {
		require.Empty(t, d.Complaints())
		require.Zero(t, d.held(), "a context is left when the test ends")
	})
	return d
}

// Set sets what the driver reports or does: "version", "devices", "init" (its
// error), "memory" (that can be allocated at once), "registers" (of functions)
// and "fail launch" (the n-th that runs from now on).
func (d *Double) Set(t testing.TB, what string, value int) {
	t.Helper()
	require.Zero(t, d.set(what, value), "the double has no setting %q", what)
}

// Early returns how many launches were allowed to begin before earlier ones had
// ended.
func (d *Double) Early() int { return d.early() }

// Forget makes the double as it was when it was loaded: it has nothing to
// complain of any more.
func (d *Double) Forget() { d.reset() }

// Complaints returns what the double and its kernels complain of, since the
// test began or Forget was called.
func (d *Double) Complaints() string { return strings.TrimSpace(d.complaints() + current.take()) }

// A launch is what the double hands to its runner, as C lays it out.
type launch struct {
	name        *byte
	grid, block [3]uint32
	shared, n   uint32
	args        [32]struct {
		data *byte
		size uint64
	}
}

// An executor runs the kernels of a table on the cpu device.
type executor struct {
	mu         sync.Mutex
	table      *runtime.Table
	complaints strings.Builder
}

func (e *executor) begin(table *runtime.Table) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.table = table
	e.complaints.Reset()
}

func (e *executor) take() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	s := e.complaints.String()
	e.complaints.Reset()
	return s
}

// run runs a launch and returns 0, or complains.
func (e *executor) run(l *launch) uintptr {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.execute(l); err != nil {
		fmt.Fprintf(&e.complaints, "%v\n", err)
		return 1
	}
	return 0
}

func (e *executor) execute(l *launch) error {
	name := unsafe.String(l.name, cLength(l.name))
	k := e.table.Kernel(name)
	if k == nil {
		return fmt.Errorf("a launch of %s, which is not in the table", name)
	}
	if int(l.n) != len(k.Bindings) {
		return fmt.Errorf("a launch of %s with %d arguments for %d bindings", name, l.n, len(k.Bindings))
	}
	var shape runtime.Shape
	args := make([][]byte, l.n)
	for i, b := range k.Bindings {
		args[i] = unsafe.Slice(l.args[i].data, l.args[i].size)
		if b.Type == "Shape" {
			shape = *(*runtime.Shape)(unsafe.Pointer(l.args[i].data))
		}
	}
	if groups := k.Groups(shape); groups != l.grid {
		return fmt.Errorf("a launch of %s in a grid of %v; its row says %v", name, l.grid, groups)
	}
	if block := [3]uint32{uint32(k.Threads), 1, 1}; block != l.block || int(l.shared) != k.ThreadgroupBytes {
		return fmt.Errorf("a launch of %s with blocks of %v and %d bytes; its row says %v and %d", name, l.block, l.shared, block, k.ThreadgroupBytes)
	}
	if k.Kind == runtime.Fairway {
		e.leaveStrangers(k, shape, args)
	}
	if err := cpu.Run(context.Background(), k, shape, args); err != nil {
		return fmt.Errorf("a launch of %s: %w", name, err)
	}
	return nil
}

// leaveStrangers takes the experts from the work list whose widths a fairway
// kernel has no arm for, and makes their rows NaN, as the kernel does: the cpu
// device refuses them.
func (e *executor) leaveStrangers(k *runtime.Kernel, shape runtime.Shape, args [][]byte) {
	var work, experts, out int
	for i, b := range k.Bindings {
		switch {
		case b.Name == "work":
			work = i
		case b.Name == "experts":
			experts = i
		case b.Access == runtime.Write:
			out = i
		}
	}
	size := e.table.Codec(k.Codec).ProjectionSize()
	bits := func(expert uint32, projection int) uint8 {
		return args[experts][(3*int(expert)+projection+1)*size-8]
	}
	columns := shape.Intermediate
	if k.Pass == runtime.Down {
		columns = shape.Hidden
	}
	args[work] = bytes.Clone(args[work])
	for item := range slices.Chunk(args[work][:min(len(args[work])/12, int(shape.Items))*12], 12) {
		expert, first, rows := word(item, 0), word(item, 1), word(item, 2)
		nonsense := expert >= shape.Experts || uint64(first)+uint64(rows) > uint64(shape.Rows) // the cpu device refuses it
		if rows == 0 || nonsense || slices.ContainsFunc(k.Tuples, func(t runtime.BitTuple) bool {
			if k.Pass == runtime.Down {
				return t.Down == bits(expert, 2)
			}
			return t.Gate == bits(expert, 0) && t.Up == bits(expert, 1)
		}) {
			continue
		}
		clear(item[8:])
		for j := first * columns; j < (first+rows)*columns; j++ {
			binary.LittleEndian.PutUint32(args[out][4*j:], math.Float32bits(float32(math.NaN())))
		}
	}
}

func word(b []byte, i int) uint32 { return binary.LittleEndian.Uint32(b[4*i:]) }

// cLength returns the length of a text of C.
func cLength(p *byte) int {
	n := 0
	for *(*byte)(unsafe.Add(unsafe.Pointer(p), n)) != 0 {
		n++
	}
	return n
}
