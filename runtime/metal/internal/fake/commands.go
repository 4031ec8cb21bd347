//go:build darwin || linux

package fake

import (
	"bytes"
	"context"
	"encoding/binary"
	"slices"
	"time"
	"unsafe"

	"github.com/marlingen/marlingen/runtime"
	"github.com/marlingen/marlingen/runtime/cpu"
	"github.com/marlingen/marlingen/runtime/metal/internal/objc"
)

// The statuses of a command buffer, as MTLCommandBufferStatus.
const (
	notEnqueued = 0
	committed   = 2
	completed   = 4
	failed      = 5
)

type commandBuffer struct {
	status     uintptr
	open       *object // encoder
	dispatches []dispatch
	failure    *object
	start, end time.Time
}

type encoder struct {
	commands   *object
	concurrent bool
	ended      bool
	fenced     bool // a barrier stands before the next dispatch
	pipeline   *pipeline
	bound      [31]binding
}

// A binding is an argument: a buffer from an offset on, or bytes.
type binding struct {
	buffer *buffer
	offset int
	bytes  []byte
}

// data returns the bytes that a kernel finds there.
func (b binding) data() []byte {
	if b.buffer == nil {
		return b.bytes
	}
	return b.buffer.memory[b.offset:]
}

// A dispatch is a kernel to run.
type dispatch struct {
	kernel *runtime.Kernel
	shape  runtime.Shape
	args   []binding
	fenced bool // nothing before it may run at the same time
}

func (d *dispatch) data() (args [][]byte) {
	for _, a := range d.args {
		args = append(args, a.data())
	}
	return args
}

// arg returns the argument called name.
func (d *dispatch) arg(name string) []byte {
	i := slices.IndexFunc(d.kernel.Bindings, func(b runtime.Binding) bool { return b.Name == name })
	return d.args[i].data()
}

func address(b []byte) uintptr { return uintptr(unsafe.Pointer(unsafe.SliceData(b))) }

var commandBufferMethods = map[string]method{
	"computeCommandEncoderWithDispatchType:": {args: 1, run: func(m *message) uintptr {
		c := m.to.value.(*commandBuffer)
		switch {
		case c.status != notEnqueued:
			m.violate("an encoder for a command buffer that was committed")
			return 0
		case c.open != nil:
			m.violate("a second encoder for a command buffer before endEncoding of the first")
			return 0
		case m.args[0] > 1:
			m.violate("dispatch type %d", m.args[0])
		}
		c.open = m.new("MTLComputeCommandEncoder", &encoder{commands: m.to, concurrent: m.args[0] == 1, fenced: true})
		c.open.hold(m.to)
		return m.autorelease(c.open)
	}},
	"commit": answer(func(m *message) uintptr {
		c := m.to.value.(*commandBuffer)
		switch {
		case c.open != nil:
			m.violate("commit with an encoder that was not ended")
		case c.status != notEnqueued:
			m.violate("commit of a command buffer that was committed")
			return 0
		}
		c.status = committed
		return 0
	}),
	"waitUntilCompleted": answer(func(m *message) uintptr {
		c := m.to.value.(*commandBuffer)
		if c.status == notEnqueued {
			m.violate("waitUntilCompleted before commit")
			return 0
		}
		if c.status != committed {
			return 0
		}
		c.start = time.Now()
		m.mu.Unlock() // others go on meanwhile
		words, conflicts := c.run(m.options.Fail)
		m.mu.Lock()
		c.end = time.Now()
		c.status = completed
		m.violations = append(m.violations, conflicts...)
		if words != "" {
			c.status, c.failure = failed, m.new("NSError", words)
			m.to.held = append(m.to.held, c.failure)
		}
		return 0
	}),
	"status": answer(func(m *message) uintptr { return m.to.value.(*commandBuffer).status }),
	"error": answer(func(m *message) uintptr {
		if c := m.to.value.(*commandBuffer); c.failure != nil {
			return uintptr(c.failure.id)
		}
		return 0
	}),
	"GPUStartTime": clock(func(c *commandBuffer) time.Time { return c.start }),
	"GPUEndTime":   clock(func(c *commandBuffer) time.Time { return c.end }),
}

// epoch is the zero of the GPU's clock.
var epoch = time.Now()

func clock(of func(*commandBuffer) time.Time) method {
	return method{kind: withFloat, run: func(m *message) uintptr {
		c := m.to.value.(*commandBuffer)
		if c.status < completed {
			m.violate("a GPU time before the command buffer has completed")
			return 0
		}
		m.float = of(c).Sub(epoch).Seconds()
		return 0
	}}
}

// run runs the dispatches: those between two barriers from the last to the
// first. It returns the words of what failed, and the conflicts.
func (c *commandBuffer) run(fail func(selector, what string) string) (words string, conflicts []string) {
	for i := 0; i < len(c.dispatches); {
		end := i + 1
		for end < len(c.dispatches) && !c.dispatches[end].fenced {
			end++
		}
		together := c.dispatches[i:end]
		conflicts = append(conflicts, overlaps(together)...)
		for _, d := range slices.Backward(together) {
			if words := fail("commit", d.kernel.Symbol); words != "" {
				return words, conflicts
			}
			if err := cpu.Run(context.Background(), d.kernel, d.shape, d.data()); err != nil {
				return d.kernel.Symbol + ": " + err.Error(), conflicts
			}
		}
		i = end
	}
	return "", conflicts
}

// encoding wraps a method of an encoder that is open.
func encoding(args int, f func(m *message, e *encoder)) method {
	return method{args: args, run: func(m *message) uintptr {
		e := m.to.value.(*encoder)
		if e.ended {
			m.violate("a message to an encoder after endEncoding")
			return 0
		}
		f(m, e)
		return 0
	}}
}

var encoderMethods = map[string]method{
	"endEncoding": encoding(0, func(_ *message, e *encoder) {
		e.ended = true
		e.commands.value.(*commandBuffer).open = nil
	}),
	"setComputePipelineState:": encoding(1, func(m *message, e *encoder) {
		if p := m.arg(0, "MTLComputePipelineState"); p != nil {
			e.pipeline = p.value.(*pipeline)
			e.commands.hold(p)
		}
	}),
	"setBuffer:offset:atIndex:": encoding(3, func(m *message, e *encoder) {
		b, offset, index := m.arg(0, "MTLBuffer"), int(m.args[1]), m.args[2]
		switch {
		case b == nil:
		case index >= uintptr(len(e.bound)):
			m.violate("setBuffer: index %d", index)
		case offset < 0 || offset >= len(b.value.(*buffer).memory) || offset%runtime.Align != 0:
			m.violate("setBuffer: offset %d in %d bytes", offset, len(b.value.(*buffer).memory))
		default:
			e.bound[index] = binding{buffer: b.value.(*buffer), offset: offset}
			e.commands.hold(b)
		}
	}),
	"setBytes:length:atIndex:": encoding(3, func(m *message, e *encoder) {
		length, index := int(m.args[1]), m.args[2]
		switch {
		case m.args[0] == 0 || length < 1 || length > 4096:
			m.violate("setBytes: %d bytes at %#x; there can be 1 to 4096", length, m.args[0])
		case index >= uintptr(len(e.bound)):
			m.violate("setBytes: index %d", index)
		default:
			e.bound[index] = binding{bytes: bytes.Clone(objc.Bytes(m.args[0], length))}
		}
	}),
	"memoryBarrierWithScope:": encoding(1, func(m *message, e *encoder) {
		if m.args[0]&^7 != 0 || m.args[0] == 0 {
			m.violate("memoryBarrierWithScope: %#x", m.args[0])
		}
		e.fenced = e.fenced || m.args[0]&1 != 0 // buffers
	}),
	"dispatchThreadgroups:threadsPerThreadgroup:": {kind: withSizes, run: func(m *message) uintptr {
		e := m.to.value.(*encoder)
		if e.ended {
			m.violate("a dispatch after endEncoding")
			return 0
		}
		m.dispatch(e, m.sizes[0], m.sizes[1])
		return 0
	}},
}

// dispatch checks a dispatch and notes it.
func (m *message) dispatch(e *encoder, groups, threads objc.Size) {
	p := e.pipeline
	if p == nil {
		m.violate("a dispatch without a pipeline")
		return
	}
	k, before := p.kernel, len(m.violations)
	if groups.Count() == 0 || threads.Count() == 0 || threads.Count() > uint64(p.threads) {
		m.violate("%s: %v threadgroups of %v threads; there can be 1 to %d", k.Symbol, groups, threads, p.threads)
	}
	d := dispatch{kernel: k, args: slices.Clone(e.bound[:len(k.Bindings)]), fenced: e.fenced || !e.concurrent}
	for i, b := range k.Bindings {
		switch a := d.args[i]; {
		case a.buffer == nil && a.bytes == nil:
			m.violate("%s: nothing is bound at index %d, which is %s", k.Symbol, i, b.Name)
		case (a.buffer == nil) != (b.Access == runtime.Constant):
			m.violate("%s: what is bound at index %d is not %s %s", k.Symbol, i, b.Access, b.Name)
		case b.Type == "Shape":
			if _, err := binary.Decode(a.bytes, binary.LittleEndian, &d.shape); err != nil {
				m.violate("%s: %d bytes at index %d are no Shape", k.Symbol, len(a.bytes), i)
			}
		}
	}
	if len(m.violations) > before {
		return
	}
	g := k.Groups(d.shape)
	if want := (objc.Size{Width: uint64(g[0]), Height: uint64(g[1]), Depth: uint64(g[2])}); groups != want {
		m.violate("%s: %v threadgroups, and %v in the table", k.Symbol, groups, want)
	}
	if want := (objc.Size{Width: uint64(k.Threads), Height: 1, Depth: 1}); threads != want {
		m.violate("%s: threadgroups of %v threads, and of %v in the table", k.Symbol, threads, want)
	}
	if len(m.violations) > before {
		return
	}
	c := e.commands.value.(*commandBuffer)
	c.dispatches = append(c.dispatches, d)
	e.fenced = false
}
