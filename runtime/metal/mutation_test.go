//go:build darwin || linux

package metal_test

import (
	"errors"
	goruntime "runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/marlingen/marlingen/generated"
	"github.com/marlingen/marlingen/runtime"
	"github.com/marlingen/marlingen/runtime/devicetest"
	"github.com/marlingen/marlingen/runtime/metal"
	"github.com/marlingen/marlingen/runtime/metal/internal/fake"
	"github.com/marlingen/marlingen/runtime/metal/internal/objc"
)

// A mutant is the fake behind a wire that changes messages, as a mistake in this
// package would.
type mutant struct {
	*fake.Runtime
	names map[objc.Selector]string

	mu     sync.Mutex
	change func(c *call)
}

func newMutant(rt *fake.Runtime, change func(c *call)) *mutant {
	return &mutant{Runtime: rt, names: map[objc.Selector]string{}, change: change}
}

// A call is a message on its way.
type call struct {
	rt       *fake.Runtime
	selector string
	to       objc.ID
	args     [4]uintptr
	sizes    [2]objc.Size
	times    int // that it is sent
}

func (m *mutant) Selector(name string) objc.Selector {
	s := m.Runtime.Selector(name)
	m.names[s] = name
	return s
}

func (m *mutant) pass(to objc.ID, s objc.Selector, c call, send func(c call)) {
	c.rt, c.selector, c.to, c.times = m.Runtime, m.names[s], to, 1
	m.mu.Lock()
	m.change(&c)
	m.mu.Unlock()
	for range c.times {
		send(c)
	}
}

func (m *mutant) Send(to objc.ID, s objc.Selector, a, b, c, d uintptr) (result uintptr) {
	m.pass(to, s, call{args: [4]uintptr{a, b, c, d}}, func(c call) {
		result = m.Runtime.Send(c.to, s, c.args[0], c.args[1], c.args[2], c.args[3])
	})
	return result
}

func (m *mutant) SendPointer(to objc.ID, s objc.Selector, p unsafe.Pointer, b, c, d uintptr) (result uintptr) {
	m.pass(to, s, call{args: [4]uintptr{0, b, c, d}}, func(c call) {
		result = m.Runtime.SendPointer(c.to, s, unsafe.Add(p, c.args[0]), c.args[1], c.args[2], c.args[3])
	})
	return result
}

func (m *mutant) SendSizes(to objc.ID, s objc.Selector, a, b objc.Size) {
	m.pass(to, s, call{sizes: [2]objc.Size{a, b}}, func(c call) { m.Runtime.SendSizes(c.to, s, c.sizes[0], c.sizes[1]) })
}

func (m *mutant) SendFloat(to objc.ID, s objc.Selector) (result float64) {
	m.pass(to, s, call{}, func(c call) { result = m.Runtime.SendFloat(c.to, s) })
	return result
}

// judge runs check on a mutant, and returns what it says, and what the fake says.
func judge(t *testing.T, change func(c *call), check func(dev runtime.Device, lib runtime.Library) error) (violations []string, suite error) {
	t.Helper()
	rt := newMutant(fake.New(fake.Options{Table: generated.Table}), change)
	suite = func() error {
		dev, err := metal.OpenOn(rt, metal.Options{})
		if err != nil {
			return err
		}
		lib, err := dev.Load(t.Context(), generated.Table, generated.Sources)
		if err != nil {
			return errors.Join(err, dev.Close())
		}
		return errors.Join(check(dev, lib), lib.Close(), dev.Close())
	}()
	return rt.Left(), suite
}

// checkKernels returns what the suite has for some kernels.
func checkKernels(t *testing.T, symbols ...string) func(dev runtime.Device, lib runtime.Library) error {
	return func(dev runtime.Device, lib runtime.Library) error {
		var errs []error
		for _, symbol := range symbols {
			k := generated.Table.Kernel(symbol)
			errs = append(errs, devicetest.CheckKernel(t.Context(), dev, lib, generated.Table, k, devicetest.Options{Short: true}))
		}
		return errors.Join(errs...)
	}
}

// on changes the messages of a selector.
func on(selector string, change func(c *call)) func(*call) {
	return func(c *call) {
		if c.selector == selector {
			change(c)
		}
	}
}

func never(c *call) { c.times = 0 }
func twice(c *call) { c.times = 2 }

// Without a mutation all is well; with one, either the suite fails or the fake
// objects, and mostly both.
func TestMutations(t *testing.T) {
	check := func(dev runtime.Device, lib runtime.Library) error {
		kernels := checkKernels(t, generated.MoePrefix, generated.MoeCombine, generated.MoeTrellisSwigluDecodeDown)
		return errors.Join(kernels(dev, lib), devicetest.CheckContract(t.Context(), dev, lib, generated.Table))
	}
	violations, suite := judge(t, func(*call) {}, check)
	require.NoError(t, suite)
	require.Empty(t, violations)

	const (
		setBuffer = "setBuffer:offset:atIndex:"
		setBytes  = "setBytes:length:atIndex:"
		dispatch  = "dispatchThreadgroups:threadsPerThreadgroup:"
		barrier   = "memoryBarrierWithScope:"
	)
	var encoder objc.ID
	for _, m := range []struct {
		name      string
		change    func(*call)
		suite     bool   // it fails
		violation string // what the fake says, if anything
	}{
		{"indices from 1", on(setBuffer, func(c *call) { c.args[2]++ }), true, "nothing is bound at index 1"},
		{"no barriers", on(barrier, never), true, "no barrier stands between the launches"},
		{"barriers for textures only", on(barrier, func(c *call) { c.args[0] = 2 }), true, "no barrier stands between the launches"},
		{"offsets left out", on(setBuffer, func(c *call) { c.args[1] = 0 }), true, ""},
		{"offsets off by 4", on(setBuffer, func(c *call) { c.args[1] += 4 }), true, "setBuffer: offset"},
		{"a buffer left out", on(setBuffer, func(c *call) { c.times = min(1, int(c.args[2]^3)) }), true, "nothing is bound at index 3"},
		{"constants too long", on(setBytes, func(c *call) { c.args[1] = 4097 }), true, "setBytes: 4097 bytes"},
		{"constants cut", on(setBytes, func(c *call) { c.args[1] -= 4 }), true, "are no Shape"},
		{"threads and threadgroups swapped", on(dispatch, func(c *call) { c.sizes[0], c.sizes[1] = c.sizes[1], c.sizes[0] }), true, "and of"},
		{"threads for threadgroups", on(dispatch, func(c *call) { c.sizes[0].Width *= c.sizes[1].Width }), true, "in the table"},
		{"too many threads", on(dispatch, func(c *call) { c.sizes[1].Width = 1025 }), true, "there can be 1 to 1024"},
		{"no threads", on(dispatch, func(c *call) { c.sizes[1].Width = 0 }), true, "there can be 1 to 1024"},
		{"no pipeline", on("setComputePipelineState:", never), true, "a dispatch without a pipeline"},
		{"the pipeline of another kernel", func() func(*call) {
			var first uintptr
			return on("setComputePipelineState:", func(c *call) {
				if first == 0 {
					first = c.args[0]
				}
				c.args[0] = first
			})
		}(), true, ""},
		{"not dispatched", on(dispatch, never), true, ""},
		{"ended too early", on(dispatch, func(c *call) { c.rt.Send(c.to, c.rt.Selector("endEncoding"), 0, 0, 0, 0) }), true, "a dispatch after endEncoding"},
		{"arguments for another encoder", func(c *call) {
			if on(dispatch, func(c *call) { encoder = c.to })(c); c.selector == setBuffer && encoder != 0 {
				c.to = encoder
			}
		}, true, "sent to a released MTLComputeCommandEncoder"},
		{"not ended", on("endEncoding", never), false, "an encoder that was not ended"},
		{"ended twice", on("endEncoding", twice), false, "a message to an encoder after endEncoding"},
		{"two encoders", on("computeCommandEncoderWithDispatchType:", twice), true, "a second encoder"},
		{"not committed", on("commit", never), true, "waitUntilCompleted before commit"},
		{"committed twice", on("commit", twice), false, "commit of a command buffer that was committed"},
		{"not waited for", on("waitUntilCompleted", never), true, "released before anybody waited"},
		{"no language version", on("setLanguageVersion:", never), false, "language version 0x0"},
		{"MSL 2.4", on("setLanguageVersion:", func(c *call) { c.args[0] = 2<<16 | 4 }), false, "language version 0x20004"},
		{"fast math", on("setMathMode:", never), false, "newLibraryWithSource: fast math"},
		{"fast functions", on("setMathFloatingPointFunctions:", never), false, "newLibraryWithSource: fast math"},
		{"released twice", on("release", twice), false, "sent to a released"},
		{"never released", on("release", never), false, "MTLBuffer never released"},
		{"buffers of no bytes", on("newBufferWithLength:options:", func(c *call) { c.args[0] = 0 }), true, "newBufferWithLength: 0"},
		{"residency requested before commit", func(c *call) {
			on("commit", func(c *call) { c.times = 0 })(c)
			on("waitUntilCompleted", never)(c)
		}, true, "requestResidency before commit"},
		{"left in the residency set", on("removeAllocation:", never), false, "a residency set holds a released buffer"},
		{"a set that the queue keeps", on("removeResidencySet:", never), false, "a command queue was released that has a residency set"},
		{"selectors of others", on(barrier, func(c *call) { c.selector, c.to = "", 0 }), true, "sent to nil"},
	} {
		t.Run(m.name, func(t *testing.T) {
			violations, suite := judge(t, m.change, check)
			require.Equal(t, m.suite, suite != nil, "the suite says: %v", suite)
			if m.violation != "" {
				require.True(t, slices.ContainsFunc(violations, func(v string) bool { return strings.Contains(v, m.violation) }), "%q", violations)
			}
			require.True(t, suite != nil || len(violations) > 0, "nobody noticed")
		})
	}
}

// No two buffers of a pass can be taken for each other.
func TestSwappedBuffers(t *testing.T) {
	for _, symbol := range []string{
		generated.MoeRoute, generated.MoeCount, generated.MoePrefix, generated.MoeScatter, generated.MoeCombine,
		generated.MoeTrellisSwigluDecode623, generated.MoeTrellisSwigluPrefill4FairwayDown,
	} {
		bindings := generated.Table.Kernel(symbol).Bindings
		for i := range bindings {
			for j := range i {
				if bindings[i].Access == runtime.Constant || bindings[j].Access == runtime.Constant {
					continue
				}
				swap := on("setBuffer:offset:atIndex:", func(c *call) {
					switch int(c.args[2]) {
					case i:
						c.args[2] = uintptr(j)
					case j:
						c.args[2] = uintptr(i)
					}
				})
				_, err := judge(t, swap, checkKernels(t, symbol))
				require.Error(t, err, "%s and %s of %s are swapped", bindings[i].Name, bindings[j].Name, symbol)
			}
		}
	}
}

// The barriers of a real layer are missed, too.
func TestForwardWithoutBarriers(t *testing.T) {
	violations, err := judge(t, on("memoryBarrierWithScope:", never), func(dev runtime.Device, lib runtime.Library) error {
		forwards(t, dev, lib)
		return nil
	})
	require.NoError(t, err)
	require.Contains(t, strings.Join(violations, "\n"),
		"h of moe_trellis_swiglu_decode_fairway and h of moe_trellis_swiglu_decode_fairway_down are in the same memory, one is written, and no barrier stands between the launches")
	require.Contains(t, strings.Join(violations, "\n"), "y of moe_combine")
}

// A pool that is missing, or of another thread, leaks.
func TestPools(t *testing.T) {
	left := func(wrap func(*fake.Runtime) objc.Runtime) string {
		rt := fake.New(fake.Options{Table: generated.Table})
		dev, err := metal.OpenOn(wrap(rt), metal.Options{})
		require.NoError(t, err)
		require.NoError(t, dev.Close())
		return strings.Join(rt.Left(), "\n")
	}
	require.Empty(t, left(func(rt *fake.Runtime) objc.Runtime { return rt }))
	require.Contains(t, left(func(rt *fake.Runtime) objc.Runtime { return withoutPools{rt} }), "name sent with no pool in place")
	require.Contains(t, left(func(rt *fake.Runtime) objc.Runtime { return wandering{rt} }), "an autorelease pool was popped that is not of this thread")
}

type withoutPools struct{ *fake.Runtime }

func (withoutPools) Push() uintptr { return 0 }
func (withoutPools) Pop(uintptr)   {}

// wandering pops pools on another thread.
type wandering struct{ *fake.Runtime }

func (w wandering) Pop(pool uintptr) {
	done := make(chan bool)
	go func() {
		goruntime.LockOSThread() // which the caller has done with its own
		defer close(done)
		w.Runtime.Pop(pool)
	}()
	<-done
}
