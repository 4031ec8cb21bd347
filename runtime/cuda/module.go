package cuda

import (
	"bytes"
	"fmt"
	"io/fs"
	"regexp"
	"strings"

	"github.com/marlingen/marlingen/runtime"
	"github.com/marlingen/marlingen/runtime/cuda/internal/driver"
)

// A module is what became of one file of PTX.
type module struct {
	handle    driver.Module              // 0 if there are words
	words     string                     // why it cannot be used
	entries   map[string]order           // that the file defines
	functions map[string]driver.Function // as the driver enumerates them; nil if it does not
}

// header begins the first line of PTX; the digest of a manifest ends it.
const header = "// marlingen "

var entry = regexp.MustCompile(`\.entry\s+([A-Za-z0-9_$]+)`)

// An order says how a kernel stands to other launches.
type order struct {
	waits bool // for earlier ones itself, so that it may begin before they have ended
	leads bool // it lets the next one begin before it has waited
}

// The instructions by which a kernel waits for launches before it, and lets
// launches after it begin.
var (
	waitsFor = []byte("griddepcontrol.wait;")
	lets     = []byte("griddepcontrol.launch_dependents;")
)

// orderOf returns the order of the kernel of an entry.
func orderOf(ptx []byte) order {
	wait, let := bytes.Index(ptx, waitsFor), bytes.Index(ptx, lets)
	return order{waits: wait >= 0, leads: let >= 0 && (wait < 0 || let < wait)}
}

// loadModule compiles a file whose header has to have a digest. The error is
// for what is wrong with more than the file.
func (d *Device) loadModule(sources fs.FS, name, digest string) (*module, error) {
	ptx, err := fs.ReadFile(sources, name)
	if err != nil {
		return nil, fmt.Errorf("cuda: %w", err)
	}
	m := &module{entries: make(map[string]order)}
	found := entry.FindAllSubmatchIndex(ptx, -1)
	for i, at := range found {
		end := len(ptx)
		if i+1 < len(found) {
			end = found[i+1][0]
		}
		m.entries[string(ptx[at[2]:at[3]])] = orderOf(ptx[at[1]:end])
	}
	first, _, _ := bytes.Cut(ptx, []byte("\n"))
	have, ok := strings.CutPrefix(strings.TrimRight(string(first), " \r"), header)
	switch {
	case !ok:
		m.words = fmt.Sprintf("%s: it does not begin with %q and a digest", name, header)
		return m, nil
	case have != digest:
		m.words = fmt.Sprintf("%s: it was compiled from sources of digest %.12s, and these have %.12s", name, have, digest)
		return m, nil
	}
	return m, d.do(func() error {
		handle, err := d.api.LoadModule(ptx)
		switch {
		case driver.Fatal(driver.Code(err)):
			return err
		case err != nil:
			m.words = fmt.Sprintf("%s: %v", name, err)
			return nil
		}
		m.handle = handle
		if d.api.Enumerates() {
			m.functions, err = d.api.Functions(handle)
		}
		return err
	})
}

// defines reports whether m has a kernel, or would have it.
func (m *module) defines(symbol string) bool {
	if m.functions != nil {
		_, ok := m.functions[symbol]
		return ok
	}
	_, ok := m.entries[symbol]
	return ok
}

// function returns a function of m, on the device.
func (m *module) function(api *driver.API, symbol string) (driver.Function, error) {
	if f, ok := m.functions[symbol]; ok {
		return f, api.LoadFunction(f)
	}
	return api.Function(m.handle, symbol)
}

// prepare makes f ready for launches as the row of k says, or returns where it
// departs from the row.
func (d *Device) prepare(f driver.Function, k *runtime.Kernel) (words string, err error) {
	if d.api.Enumerates() {
		params, err := d.api.Params(f)
		if words := mismatch(params, k.Bindings); err != nil || words != "" {
			return words, err
		}
	}
	attribute := func(a driver.FunctionAttribute) (n int) {
		if err == nil {
			n, err = d.api.FunctionAttribute(f, a)
		}
		return n
	}
	threads, registers, declared := attribute(driver.FunctionThreads), attribute(driver.FunctionRegisters), attribute(driver.FunctionShared)
	leave := attribute(driver.FunctionDynamicShared)
	switch {
	case err != nil:
		return "", err
	case k.Threads < 1 || k.Threads > threads:
		return fmt.Sprintf("a threadgroup of %d threads; with %d registers each, there can be %d", k.Threads, registers, threads), nil
	case declared+k.ThreadgroupBytes > d.info.ThreadgroupBytes:
		return fmt.Sprintf("%d bytes of threadgroup memory; there are %d", declared+k.ThreadgroupBytes, d.info.ThreadgroupBytes), nil
	case k.ThreadgroupBytes > leave:
		return "", d.api.SetFunctionAttribute(f, driver.FunctionDynamicShared, k.ThreadgroupBytes)
	}
	return "", nil
}

const pointerBytes = 8

// mismatch says where the parameters of a function depart from what the table
// says of them, or nothing.
func mismatch(params []driver.Param, bindings []runtime.Binding) string {
	if len(params) != len(bindings) {
		return fmt.Sprintf("the kernel has %d parameters, and %d bindings in the table", len(params), len(bindings))
	}
	end := 0
	for i, b := range bindings {
		size, align := pointerBytes, pointerBytes
		if n := b.ConstantSize(); n > 0 {
			size, align = n, 4
		}
		switch p := params[i]; {
		case p.Size != size:
			return fmt.Sprintf("parameter %d of the kernel has %d bytes, and %s has %d in the table", i, p.Size, b.Name, size)
		case p.Offset < end || p.Offset%align != 0:
			return fmt.Sprintf("parameter %d of the kernel, %s, is at byte %d, after others of %d", i, b.Name, p.Offset, end)
		}
		end = params[i].Offset + size
	}
	return ""
}
