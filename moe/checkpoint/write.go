package checkpoint

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"unicode/utf8"

	"github.com/marlingen/marlingen/moe/trellis"
)

// A Draft is a tensor that is to be written.
type Draft struct {
	Name  string
	DType DType
	Shape []int

	// Bytes returns the elements, little-endian and row-major. It is called
	// once, when it is the tensor's turn.
	Bytes func() ([]byte, error)
}

// Draft returns t as a tensor to be written.
func (t Tensor) Draft() Draft {
	return Draft{t.Name, t.DType, t.Shape, func() ([]byte, error) { return t.Data, nil }}
}

// TrellisDrafts returns the tensors in which a module's weight is stored: the
// components of t.
func TrellisDrafts(module string, t *trellis.Tensor) []Draft {
	var drafts []Draft
	for _, c := range trellis.Components {
		drafts = append(drafts, Draft{
			Name:  module + "." + c.String(),
			DType: trellisType(c),
			Shape: c.Shape(t.Bits, t.Out, t.In),
			Bytes: func() ([]byte, error) { return t.Part(c), nil },
		})
	}
	return drafts
}

// headerAlign is the alignment of the first tensor in a file.
const headerAlign = 64

// WriteTensors writes a safetensors file: the tensors side by side in the
// given order, the first at a multiple of 64 bytes. It holds the bytes of one
// tensor at a time. Errors name the tensor.
func WriteTensors(w io.Writer, tensors []Draft, metadata map[string]string) error {
	header, err := draftHeader(tensors, metadata)
	if err != nil {
		return err
	}
	if _, err := w.Write(header); err != nil {
		return err
	}
	for _, t := range tensors {
		b, err := t.Bytes()
		if err != nil {
			return fmt.Errorf("%s: %w", t.Name, err)
		}
		if want, _ := size(t.DType, t.Shape); len(b) != want {
			return fmt.Errorf("%s: %s %v takes %d bytes, not %d", t.Name, t.DType, t.Shape, want, len(b))
		}
		if _, err := w.Write(b); err != nil {
			return err
		}
	}
	return nil
}

// draftHeader returns what precedes the tensors' bytes.
func draftHeader(tensors []Draft, metadata map[string]string) ([]byte, error) {
	var errs []error
	for k, v := range metadata {
		if !utf8.ValidString(k) || !utf8.ValidString(v) {
			errs = append(errs, fmt.Errorf("metadata: %q: %q is not UTF-8", k, v))
		}
	}
	header := append(make([]byte, 8), '{')
	if metadata != nil {
		header = append(header, `"`+metadataName+`":`...)
		header = append(header, marshal(metadata)...)
	}
	seen := map[string]bool{metadataName: true}
	at := 0
	for _, t := range tensors {
		n, fits := size(t.DType, t.Shape)
		switch {
		case !utf8.ValidString(t.Name):
			errs = append(errs, fmt.Errorf("%q: the name is not UTF-8", t.Name))
		case seen[t.Name]:
			errs = append(errs, fmt.Errorf("%s: the name is taken", t.Name))
		case t.DType.Size() == 0:
			errs = append(errs, fmt.Errorf("%s: dtype %q is not known", t.Name, t.DType))
		case !fits || n > math.MaxInt-at:
			errs = append(errs, fmt.Errorf("%s: %s %v does not fit in memory", t.Name, t.DType, t.Shape))
		}
		if errs != nil {
			continue
		}
		seen[t.Name] = true
		if len(header) > 9 {
			header = append(header, ',')
		}
		header = append(header, marshal(t.Name)...)
		header = append(header, ':')
		header = append(header, marshal(struct {
			DType   DType  `json:"dtype"`
			Shape   []int  `json:"shape"`
			Offsets [2]int `json:"data_offsets"`
		}{t.DType, append([]int{}, t.Shape...), [2]int{at, at + n}})...)
		at += n
	}
	if errs != nil {
		return nil, errors.Join(errs...)
	}
	header = append(header, '}')
	for len(header)%headerAlign != 0 {
		header = append(header, ' ')
	}
	if len(header)-8 > maxHeader {
		return nil, fmt.Errorf("the header has %d bytes, more than %d", len(header)-8, maxHeader)
	}
	binary.LittleEndian.PutUint64(header, uint64(len(header)-8))
	return header, nil
}

// marshal returns the JSON of a value that always has one.
func marshal(v any) []byte {
	b, _ := json.Marshal(v)
	return b
}

// WriteTensorsFile writes a safetensors file at path, as WriteTensors does.
// The file appears, or replaces another, only once it is complete and on disk.
func WriteTensorsFile(path string, tensors []Draft, metadata map[string]string) (err error) {
	f, err := os.OpenFile(fmt.Sprintf("%s.%016x.tmp", path, rand.Uint64()), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
		}
	}()
	w := bufio.NewWriterSize(f, 1<<20)
	if err := WriteTensors(w, tensors, metadata); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	// Not every file system can sync a directory; the file is in place.
	if d, err := os.Open(filepath.Dir(path)); err == nil {
		_ = d.Sync()
		_ = d.Close()
	}
	return nil
}
