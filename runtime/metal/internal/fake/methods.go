//go:build darwin || linux

package fake

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/marlingen/marlingen/runtime"
	"github.com/marlingen/marlingen/runtime/metal/internal/objc"
)

// Values of objects, by class. That of NSString is a string, that of NSError its
// words, that of dispatch_data []byte. NSArray has none: it holds its elements.
type (
	compileOptions struct {
		language    uintptr
		safe, exact bool // math
	}
	library  struct{ names []string }
	function struct{ name string }
	pipeline struct {
		kernel                 *runtime.Kernel
		threads, width, memory int
	}
	buffer struct {
		memory []byte
		owned  bool // by Metal
	}
	residencySet struct {
		allocations map[*object]bool
		uncommitted bool
	}
	commandQueue struct{ sets []*object }
)

// kernelName is where a source names a kernel.
var kernelName = regexp.MustCompile(`host_name\("(\w+)"\)|kernel void (\w+)\(`)

// metallibMagic begins what this runtime takes for a compiled library; the names
// of its functions follow, a line each.
const metallibMagic = "MTLB\n"

// Metallib returns a compiled library with functions of the given names.
func Metallib(names ...string) []byte { return []byte(metallibMagic + strings.Join(names, "\n")) }

// common are the methods of every object.
var common = map[string]method{
	"release": {run: func(m *message) uintptr {
		if strings.HasPrefix(m.to.class, "+") {
			m.violate("a class was released")
			return 0
		}
		m.drop(m.to)
		return 0
	}},
}

// answer is a method that returns a number.
func answer(f func(m *message) uintptr) method { return method{run: f} }

// text is a method that returns a string.
func text(f func(m *message) string) method {
	return method{run: func(m *message) uintptr { return m.autorelease(m.new("NSString", f(m))) }}
}

// alloc is a class that objects are made of.
func alloc(class string, value func() any) map[string]method {
	return map[string]method{"alloc": {run: func(m *message) uintptr { return uintptr(m.new(class, value()).id) }}}
}

var itself = answer(func(m *message) uintptr { return uintptr(m.to.id) })

// responds is respondsToSelector:. Like others, it leaves rubbish above the BOOL.
var responds = method{args: 1, run: func(m *message) uintptr {
	name := m.selectors[m.args[0]-1]
	if _, ok := methods[m.to.class][name]; ok && !m.lacks(name) {
		return 0xbad001
	}
	return 0xbad000
}}

// methods holds those of each class; a class itself has a + before its name.
var methods map[string]map[string]method

func init() {
	methods = map[string]map[string]method{
		"+NSProcessInfo": {"processInfo": {run: func(m *message) uintptr {
			return m.autorelease(m.new("NSProcessInfo", nil))
		}}},
		"NSProcessInfo": {"operatingSystemVersionString": text(func(*message) string { return "Version 0 (of fake)" })},
		"NSString":      {},
		"dispatch_data": {},
		"NSError": {
			"localizedDescription": text(func(m *message) string { return m.to.value.(string) }),
			"domain":               text(func(*message) string { return "FakeErrorDomain" }),
			"code":                 answer(func(*message) uintptr { return 3 }),
		},
		"NSArray": {
			"count": answer(func(m *message) uintptr { return uintptr(len(m.to.held)) }),
			"objectAtIndex:": {args: 1, run: func(m *message) uintptr {
				if m.args[0] >= uintptr(len(m.to.held)) {
					m.violate("objectAtIndex: %d of %d", m.args[0], len(m.to.held))
					return 0
				}
				return uintptr(m.to.held[m.args[0]].id)
			}},
		},
		"+MTLCompileOptions": alloc("MTLCompileOptions", func() any { return new(compileOptions) }),
		"MTLCompileOptions": {
			"init":                itself,
			"respondsToSelector:": responds,
			"setLanguageVersion:": {args: 1, run: func(m *message) uintptr {
				m.to.value.(*compileOptions).language = m.args[0]
				return 0
			}},
			"setMathMode:": {args: 1, run: func(m *message) uintptr {
				m.to.value.(*compileOptions).safe = m.args[0] == 0
				return 0
			}},
			"setMathFloatingPointFunctions:": {args: 1, run: func(m *message) uintptr {
				m.to.value.(*compileOptions).exact = m.args[0] == 1
				return 0
			}},
			"setFastMathEnabled:": {args: 1, run: func(m *message) uintptr {
				o := m.to.value.(*compileOptions)
				o.safe, o.exact = m.args[0] == 0, m.args[0] == 0
				return 0
			}},
		},
		"+MTLResidencySetDescriptor": alloc("MTLResidencySetDescriptor", func() any { return nil }),
		"MTLResidencySetDescriptor":  {"init": itself},
		"MTLResidencySet": {
			"addAllocation:": {args: 1, run: func(m *message) uintptr {
				if b, set := m.arg(0, "MTLBuffer"), m.to.value.(*residencySet); b != nil {
					set.allocations[b], set.uncommitted = true, true
				}
				return 0
			}},
			"removeAllocation:": {args: 1, run: func(m *message) uintptr {
				b, set := m.arg(0, "MTLBuffer"), m.to.value.(*residencySet)
				if b != nil && !set.allocations[b] {
					m.violate("removeAllocation: of a buffer that is not in the set")
				}
				delete(set.allocations, b)
				set.uncommitted = true
				return 0
			}},
			"commit": answer(func(m *message) uintptr {
				m.to.value.(*residencySet).uncommitted = false
				return 0
			}),
			"requestResidency": answer(func(m *message) uintptr {
				if m.to.value.(*residencySet).uncommitted {
					m.violate("requestResidency before commit")
				}
				return 0
			}),
			"endResidency": answer(func(m *message) uintptr {
				for b := range m.to.value.(*residencySet).allocations {
					if b.refs <= 0 {
						m.violate("a residency set holds a released buffer")
					}
				}
				return 0
			}),
		},
		"MTLDevice":   deviceMethods,
		"MTLLibrary":  {"functionNames": functionNames, "newFunctionWithName:": newFunction},
		"MTLFunction": {},
		"MTLComputePipelineState": {
			"maxTotalThreadsPerThreadgroup": answer(func(m *message) uintptr { return uintptr(m.to.value.(*pipeline).threads) }),
			"threadExecutionWidth":          answer(func(m *message) uintptr { return uintptr(m.to.value.(*pipeline).width) }),
			"staticThreadgroupMemoryLength": answer(func(m *message) uintptr { return uintptr(m.to.value.(*pipeline).memory) }),
		},
		"MTLBuffer": {"contents": answer(func(m *message) uintptr { return address(m.to.value.(*buffer).memory) })},
		"MTLCommandQueue": {
			"addResidencySet:": {args: 1, run: func(m *message) uintptr {
				if set := m.arg(0, "MTLResidencySet"); set != nil {
					m.to.value.(*commandQueue).sets = append(m.to.value.(*commandQueue).sets, set)
				}
				return 0
			}},
			"removeResidencySet:": {args: 1, run: func(m *message) uintptr {
				q, set := m.to.value.(*commandQueue), m.arg(0, "MTLResidencySet")
				i := slices.Index(q.sets, set)
				if i < 0 {
					m.violate("removeResidencySet: of a set that was not added")
					return 0
				}
				q.sets = slices.Delete(q.sets, i, i+1)
				return 0
			}},
			"commandBuffer": {run: func(m *message) uintptr {
				o := m.new("MTLCommandBuffer", &commandBuffer{})
				o.hold(m.to)
				return m.autorelease(o)
			}},
		},
		"MTLCommandBuffer":         commandBufferMethods,
		"MTLComputeCommandEncoder": encoderMethods,
	}
}

var deviceMethods = map[string]method{
	"respondsToSelector:":        responds,
	"name":                       text(func(*message) string { return "fake GPU" }),
	"maxBufferLength":            answer(func(m *message) uintptr { return uintptr(m.options.MaxBuffer) }),
	"maxThreadgroupMemoryLength": answer(func(*message) uintptr { return 32768 }),
	"supportsFamily:": {args: 1, run: func(m *message) uintptr {
		if slices.Contains(m.options.Families, m.args[0]) {
			return 0xbad001
		}
		return 0xbad000
	}},
	"newCommandQueue": {run: func(m *message) uintptr { return uintptr(m.new("MTLCommandQueue", new(commandQueue)).id) }},

	"newBufferWithLength:options:": {args: 2, run: func(m *message) uintptr {
		size := int(m.args[0])
		switch {
		case size == 0:
			m.violate("newBufferWithLength: 0")
			return 0
		case m.args[1] != 0:
			m.violate("newBufferWithLength: options %#x, not shared", m.args[1])
		case size > m.options.MaxBuffer:
			return 0
		}
		memory, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
		if err != nil {
			return 0
		}
		return uintptr(m.new("MTLBuffer", &buffer{memory, true}).id)
	}},
	"newBufferWithBytesNoCopy:length:options:deallocator:": {args: 4, run: func(m *message) uintptr {
		p, size := m.args[0], int(m.args[1])
		switch {
		case p == 0 || size == 0 || p%uintptr(page()) != 0 || size%page() != 0:
			m.violate("newBufferWithBytesNoCopy: %d bytes at %#x are no whole pages", size, p)
			return 0
		case m.args[2] != 0 || m.args[3] != 0:
			m.violate("newBufferWithBytesNoCopy: options %#x, deallocator %#x", m.args[2], m.args[3])
		case size > m.options.MaxBuffer:
			return 0
		}
		if m.options.Fail("newBufferWithBytesNoCopy:length:options:deallocator:", "") != "" {
			return 0
		}
		return uintptr(m.new("MTLBuffer", &buffer{memory: objc.Bytes(p, size)}).id)
	}},

	"newLibraryWithSource:options:error:": {kind: withError, args: 2, run: func(m *message) uintptr {
		source, options := m.arg(0, "NSString"), m.arg(1, "MTLCompileOptions")
		if source == nil || options == nil {
			return 0
		}
		switch o := options.value.(*compileOptions); {
		case o.language != 3<<16|1:
			m.violate("newLibraryWithSource: language version %#x, want 3.1", o.language)
		case !o.safe || !o.exact:
			m.violate("newLibraryWithSource: fast math")
		}
		if words := m.options.Fail("newLibraryWithSource:options:error:", source.value.(string)); words != "" {
			return m.fail(words)
		}
		var names []string
		for _, match := range kernelName.FindAllStringSubmatch(source.value.(string), -1) {
			names = append(names, match[1]+match[2])
		}
		m.failure = m.new("NSError", "warning: only a warning")
		m.autorelease(m.failure)
		return uintptr(m.new("MTLLibrary", &library{names}).id)
	}},
	"newLibraryWithData:error:": {kind: withError, args: 1, run: func(m *message) uintptr {
		data := m.arg(0, "dispatch_data")
		if data == nil {
			return 0
		}
		lines, ok := bytes.CutPrefix(data.value.([]byte), []byte(metallibMagic))
		if !ok {
			return m.fail("Invalid library file")
		}
		return uintptr(m.new("MTLLibrary", &library{strings.Split(string(lines), "\n")}).id)
	}},
	"newComputePipelineStateWithFunction:error:": {kind: withError, args: 1, run: func(m *message) uintptr {
		f := m.arg(0, "MTLFunction")
		if f == nil {
			return 0
		}
		name := f.value.(*function).name
		if words := m.options.Fail("newComputePipelineStateWithFunction:error:", name); words != "" {
			return m.fail(words)
		}
		k := m.options.Table.Kernel(name)
		if k == nil {
			return m.fail(fmt.Sprintf("the table has no kernel %s", name))
		}
		p := &pipeline{kernel: k}
		p.threads, p.width, p.memory = m.options.Limits(k)
		return uintptr(m.new("MTLComputePipelineState", p).id)
	}},
	"newResidencySetWithDescriptor:error:": {kind: withError, args: 1, run: func(m *message) uintptr {
		if m.arg(0, "MTLResidencySetDescriptor") == nil {
			return 0
		}
		if !slices.Contains(m.options.Families, 5001) {
			m.violate("this GPU aborts when it is asked for a residency set")
		}
		if words := m.options.Fail("newResidencySetWithDescriptor:error:", ""); words != "" {
			return m.fail(words)
		}
		return uintptr(m.new("MTLResidencySet", &residencySet{allocations: map[*object]bool{}}).id)
	}},
}

var functionNames = method{run: func(m *message) uintptr {
	array := m.new("NSArray", nil)
	for _, name := range m.to.value.(*library).names {
		s := m.new("NSString", name)
		array.held = append(array.held, s)
	}
	return m.autorelease(array)
}}

var newFunction = method{args: 1, run: func(m *message) uintptr {
	name := m.arg(0, "NSString")
	if name == nil || !slices.Contains(m.to.value.(*library).names, name.value.(string)) {
		return 0
	}
	return uintptr(m.new("MTLFunction", &function{name.value.(string)}).id)
}}
