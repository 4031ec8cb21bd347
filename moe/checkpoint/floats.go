package checkpoint

import (
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
)

// Float32s returns the elements of the tensor called name, which has to have
// the given shape, a type of BF16, F16 or F32, and finite elements only.
func (c *Checkpoint) Float32s(name string, shape ...int) ([]float32, error) {
	t, ok := c.tensors[name]
	switch {
	case c.closed.Load():
		return nil, c.Mistake(name, os.ErrClosed)
	case !ok:
		return nil, c.Mistake(name, errors.New("is missing"))
	case !slices.Equal(t.Shape, shape):
		return nil, c.Mistake(name, fmt.Errorf("shape is %v, want %v", t.Shape, shape))
	}
	f, err := t.float32s()
	if err == nil {
		err = finite(f)
	}
	if err != nil {
		return nil, c.Mistake(name, err)
	}
	return f, nil
}

// Mistake returns err as an Error of the tensor called name.
func (c *Checkpoint) Mistake(name string, err error) error {
	file := c.home
	if t, ok := c.tensors[name]; ok {
		file = t.file
	}
	return &Error{File: file, Tensor: name, Err: err}
}

// CheckFinite reports the tensors of layer n's feed-forward network that hold
// numbers which are not finite.
func (c *Checkpoint) CheckFinite(n int) error {
	if c.closed.Load() {
		return &Error{File: c.home, Err: os.ErrClosed}
	}
	var f faults
	for _, name := range c.layers[n] {
		t := c.tensors[name]
		if _, ok := t.DType.codec(); !ok {
			continue
		}
		v, err := t.float32s()
		if err == nil {
			err = finite(v)
		}
		if err != nil {
			f = append(f, &Error{File: t.file, Tensor: t.Name, Err: err})
		}
	}
	return f.err()
}

// finite reports the first of v that is not finite.
func finite(v []float32) error {
	for i, x := range v {
		if math.Float32bits(x)&0x7f800000 == 0x7f800000 {
			return fmt.Errorf("element %d is %v", i, x)
		}
	}
	return nil
}
