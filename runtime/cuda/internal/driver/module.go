package driver

import (
	"errors"
	"fmt"
	"strings"
	"unsafe"
)

// jit is what the driver's compiler is asked for: its words. The values hold
// addresses of the object's own parts, which do not move.
type jit struct {
	options [4]int32
	values  [4]uintptr
	info    [4 << 10]byte
	errors  [16 << 10]byte
}

func newJIT() *jit {
	const infoLog, infoSize, errorLog, errorSize = 3, 4, 5, 6
	j := &jit{options: [4]int32{infoLog, infoSize, errorLog, errorSize}}
	j.values = [4]uintptr{
		uintptr(unsafe.Pointer(&j.info)), uintptr(len(j.info)),
		uintptr(unsafe.Pointer(&j.errors)), uintptr(len(j.errors)),
	}
	return j
}

// LoadModule compiles PTX. The error holds the compiler's words.
func (a *API) LoadModule(ptx []byte) (Module, error) {
	image := append(append(make([]byte, 0, len(ptx)+1), ptx...), 0)
	j := newJIT()
	var m Module
	err := a.call(cuModuleLoadDataEx, uintptr(unsafe.Pointer(&m)), uintptr(unsafe.Pointer(&image[0])),
		uintptr(len(j.options)), uintptr(unsafe.Pointer(&j.options)), uintptr(unsafe.Pointer(&j.values)))
	if err == nil {
		return m, nil
	}
	if words := strings.TrimSpace(text(j.errors[:])); words != "" {
		err = fmt.Errorf("%w: %s", err, words)
	}
	return 0, err
}

// Unload ends the use of a module and its functions.
func (a *API) Unload(m Module) error { return a.call(cuModuleUnload, uintptr(m)) }

// Enumerates reports whether the driver can list a module's functions, and
// their parameters.
func (a *API) Enumerates() bool {
	for s := optional; s < symbols; s++ {
		if a.functions[s] == 0 {
			return false
		}
	}
	return true
}

// Functions returns the functions of a module by name, each of which wants
// LoadFunction. It is an error if the driver does not enumerate.
func (a *API) Functions(m Module) (map[string]Function, error) {
	if !a.Enumerates() {
		return nil, errors.New("the driver does not enumerate functions; CUDA 12.4 does")
	}
	var n uint32
	if err := a.call(cuModuleGetFunctionCount, uintptr(unsafe.Pointer(&n)), uintptr(m)); err != nil || n == 0 {
		return nil, err
	}
	functions := make([]Function, n)
	if err := a.call(cuModuleEnumerateFunctions, uintptr(unsafe.Pointer(&functions[0])), uintptr(n), uintptr(m)); err != nil {
		return nil, err
	}
	named := make(map[string]Function, n)
	for _, f := range functions {
		var name uintptr
		if err := a.call(cuFuncGetName, uintptr(unsafe.Pointer(&name)), uintptr(f)); err != nil {
			return nil, err
		}
		named[cString(name)] = f
	}
	return named, nil
}

// LoadFunction puts a function that Functions returned on the device.
func (a *API) LoadFunction(f Function) error { return a.call(cuFuncLoad, uintptr(f)) }

// Function returns the function of a module with a name, on the device.
func (a *API) Function(m Module, name string) (Function, error) {
	terminated := append([]byte(name), 0)
	var f Function
	err := a.call(cuModuleGetFunction, uintptr(unsafe.Pointer(&f)), uintptr(m), uintptr(unsafe.Pointer(&terminated[0])))
	return f, err
}

// A Param is where a function has a parameter, in bytes.
type Param struct{ Offset, Size int }

// Params returns the parameters of a function. The driver has to enumerate.
func (a *API) Params(f Function) ([]Param, error) {
	var params []Param
	for {
		var offset, size uintptr
		err := a.call(cuFuncGetParamInfo, uintptr(f), uintptr(len(params)), uintptr(unsafe.Pointer(&offset)), uintptr(unsafe.Pointer(&size)))
		switch {
		case Code(err) == InvalidValue: // there is none of this index
			return params, nil
		case err != nil:
			return nil, err
		}
		params = append(params, Param{int(offset), int(size)})
	}
}

// A FunctionAttribute is a number that a function has.
type FunctionAttribute int

// Attributes of functions.
const (
	FunctionThreads       FunctionAttribute = 0 // most per block
	FunctionShared        FunctionAttribute = 1 // bytes that it declares
	FunctionLocal         FunctionAttribute = 3 // bytes per thread that did not fit registers
	FunctionRegisters     FunctionAttribute = 4 // per thread
	FunctionDynamicShared FunctionAttribute = 8 // most bytes that a launch may ask for
)

// FunctionAttribute returns an attribute of a function.
func (a *API) FunctionAttribute(f Function, attribute FunctionAttribute) (int, error) {
	var n int32
	err := a.call(cuFuncGetAttribute, uintptr(unsafe.Pointer(&n)), uintptr(attribute), uintptr(f))
	return int(n), err
}

// SetFunctionAttribute sets an attribute of a function.
func (a *API) SetFunctionAttribute(f Function, attribute FunctionAttribute, value int) error {
	return a.call(cuFuncSetAttribute, uintptr(f), uintptr(attribute), uintptr(value))
}
