package checkpoint

import (
	"encoding/binary"
	"fmt"
	"iter"
	"math"
	"os"
	"path/filepath"
	"slices"

	"github.com/marlingen/marlingen/moe/dense"
)

// A DType names the type of a tensor's elements, as safetensors does.
type DType string

// The types that the readers of this package convert. Others are carried as
// bytes.
const (
	U8   DType = "U8"
	I32  DType = "I32"
	F16  DType = "F16"
	BF16 DType = "BF16"
	F32  DType = "F32"
)

var widths = map[DType]int{
	"BOOL": 1, U8: 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1,
	"I16": 2, "U16": 2, F16: 2, BF16: 2,
	I32: 4, "U32": 4, F32: 4,
	"I64": 8, "U64": 8, "F64": 8, "C64": 8,
}

// Size returns the bytes of an element, or 0 if d is not known.
func (d DType) Size() int { return widths[d] }

// codec returns the codec of weights of type d.
func (d DType) codec() (c dense.Codec, ok bool) {
	switch d {
	case BF16:
		return dense.BF16, true
	case F16:
		return dense.F16, true
	case F32:
		return dense.F32, true
	}
	return 0, false
}

// A Tensor is a named array where it lies in its file.
type Tensor struct {
	Name  string
	DType DType
	Shape []int
	Data  []byte // little-endian, row-major; never written

	offset int // in its file
}

// size returns the bytes that a tensor of this type and shape takes. Every
// product on the way must fit, even if a later dimension is zero.
func size(d DType, shape []int) (n int, ok bool) {
	n = d.Size()
	for _, s := range shape {
		if s < 0 || s > 0 && n > math.MaxInt/s {
			return 0, false
		}
		n *= s
	}
	return n, true
}

// float32s returns the elements of t.
func (t *Tensor) float32s() ([]float32, error) {
	codec, ok := t.DType.codec()
	if !ok {
		return nil, fmt.Errorf("dtype is %s, want BF16, F16 or F32", t.DType)
	}
	f := make([]float32, len(t.Data)/t.DType.Size())
	codec.Decode(f, t.Data)
	return f, nil
}

// Tensors holds the tensors of one safetensors file.
type Tensors struct {
	file     string
	byName   map[string]*Tensor
	names    []string
	metadata map[string]string
	close    func() error
}

// OpenTensors maps the safetensors file at path.
func OpenTensors(path string) (*Tensors, error) {
	v, err := mapFiles(filepath.Dir(path), []string{filepath.Base(path)})
	if err != nil {
		return nil, err
	}
	t, err := ParseTensors(path, v.file(0))
	if err != nil {
		v.close()
		return nil, err
	}
	t.close = v.close
	return t, nil
}

// ParseTensors reads the safetensors file whose contents are data. file is its
// name for errors. The tensors refer to data.
func ParseTensors(file string, data []byte) (*Tensors, error) {
	list, metadata, err := parseTensors(file, data)
	if err != nil {
		return nil, err
	}
	t := &Tensors{file: file, byName: make(map[string]*Tensor), metadata: metadata}
	for i := range list {
		t.byName[list[i].Name] = &list[i]
		t.names = append(t.names, list[i].Name)
	}
	slices.Sort(t.names)
	return t, nil
}

// Close unmaps the file. The data of its tensors must not be used any more;
// what Float32 and Int32 returned may be.
func (t *Tensors) Close() error {
	t.byName, t.names = nil, nil
	if t.close == nil {
		return nil
	}
	defer func() { t.close = nil }()
	return t.close()
}

// Names returns the names of all tensors, sorted.
func (t *Tensors) Names() []string { return slices.Clone(t.names) }

// All returns all tensors, sorted by name.
func (t *Tensors) All() iter.Seq[Tensor] {
	return func(yield func(Tensor) bool) {
		for _, name := range t.names {
			if !yield(*t.byName[name]) {
				return
			}
		}
	}
}

// Metadata returns the file's metadata; nil if it has none.
func (t *Tensors) Metadata() map[string]string { return t.metadata }

// Lookup returns the tensor of the given name.
func (t *Tensors) Lookup(name string) (Tensor, bool) {
	tensor, ok := t.byName[name]
	if !ok {
		return Tensor{}, false
	}
	return *tensor, true
}

// Float32 returns the elements and the shape of a tensor of type BF16, F16 or
// F32.
func (t *Tensors) Float32(name string) ([]float32, []int, error) {
	tensor, ok := t.byName[name]
	if !ok {
		return nil, nil, &Error{File: t.file, Tensor: name, Err: os.ErrNotExist}
	}
	f, err := tensor.float32s()
	if err != nil {
		return nil, nil, &Error{File: t.file, Tensor: name, Err: err}
	}
	return f, slices.Clone(tensor.Shape), nil
}

// Int32 returns the elements and the shape of a tensor of type I32.
func (t *Tensors) Int32(name string) ([]int32, []int, error) {
	tensor, ok := t.byName[name]
	if !ok {
		return nil, nil, &Error{File: t.file, Tensor: name, Err: os.ErrNotExist}
	}
	if tensor.DType != I32 {
		return nil, nil, &Error{File: t.file, Tensor: name, Err: fmt.Errorf("dtype is %s, want I32", tensor.DType)}
	}
	n := make([]int32, len(tensor.Data)/4)
	for i := range n {
		n[i] = int32(binary.LittleEndian.Uint32(tensor.Data[4*i:]))
	}
	return n, slices.Clone(tensor.Shape), nil
}
