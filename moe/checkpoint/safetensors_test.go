package checkpoint_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/marlingen/marlingen/moe/checkpoint"
	"github.com/stretchr/testify/require"
)

// bad are files that must be refused, and the words with which.
var bad = []struct {
	name string
	data []byte
	want []string
}{
	{"empty", nil, []string{"x.safetensors: truncated: 0 bytes"}},
	{"short", []byte{1, 2, 3}, []string{"truncated: 3 bytes"}},
	{"header beyond file", append(binary.LittleEndian.AppendUint64(nil, 100), '{', '}'), []string{"truncated: the header has 100 bytes, the file 10"}},
	{"header too large", append(binary.LittleEndian.AppendUint64(nil, 100<<20+1), '{', '}'), []string{"more than 104857600"}},
	{"header overflows", append(binary.LittleEndian.AppendUint64(nil, 1<<63+8), '{', '}'), []string{"more than 104857600"}},
	{"no header", container("", 0), []string{"header: not a JSON object"}},
	{"array", container("[]", 0), []string{"header: not a JSON object"}},
	{"space first", container(" {}", 0), []string{"header: not a JSON object"}},
	{"cut", container(`{"a":{"dtype":"U8","shape":[1]`, 0), []string{"header: not JSON, after byte", "unexpected EOF"}},
	{"no value", container(`{"a"}`, 0), []string{"header: not JSON"}},
	{"more", container(`{}{}`, 0), []string{"more after the JSON object"}},
	{"newline", container("{}\n\x00", 0), []string{"more after the JSON object"}},
	{"not UTF-8", container("{\"\xff\":1}", 0), []string{"not UTF-8"}},
	{"entry", container(`{"a":[1]}`, 0), []string{"x.safetensors: a: not a JSON object"}},
	{"null entry", container(`{"a":null}`, 0), []string{"a: not a JSON object"}},
	{"twice", container(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}`, 1), []string{"a: appears twice in the header"}},
	{"key twice", container(`{"a":{"dtype":"U8","dtype":"U8","shape":[1],"data_offsets":[0,1]}}`, 1), []string{`a: "dtype" appears twice`}},
	{"unknown key", container(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"strides":[1]}}`, 1), []string{`a: "strides" is not known`}},
	{"missing", container(`{"a":{},"b":{"dtype":"U8","shape":[1]}}`, 1), []string{`a: "dtype" is missing`, `a: "shape" is missing`, `a: "data_offsets" is missing`, `b: "data_offsets" is missing`}},
	{"dtype", container(`{"a":{"dtype":"F4","shape":[1],"data_offsets":[0,1]},"b":{"dtype":3,"shape":[1],"data_offsets":[0,1]}}`, 1), []string{`a: dtype "F4" is not known`, `b: dtype 3 is not known`}},
	{"shape", container(`{"a":{"dtype":"U8","shape":[-1],"data_offsets":[0,1]},"b":{"dtype":"U8","shape":1,"data_offsets":[0,1]},"c":{"dtype":"U8","shape":[1.0],"data_offsets":[0,1]},"d":{"dtype":"U8","shape":null,"data_offsets":[0,1]}}`, 1), []string{"a: shape [-1]", "b: shape 1", "c: shape [1.0]", "d: shape null"}},
	{"offsets", container(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[1,0]},"b":{"dtype":"U8","shape":[1],"data_offsets":[0]},"c":{"dtype":"U8","shape":[1],"data_offsets":[0,18446744073709551616]}}`, 1), []string{"a: data_offsets [1,0]", "b: data_offsets [0]", "c: data_offsets [0,184"}},
	{"overflow", container(`{"a":{"dtype":"F32","shape":[4611686018427387904,2],"data_offsets":[0,0]},"b":{"dtype":"U8","shape":[4294967296,4294967296,0],"data_offsets":[0,0]}}`, 0), []string{"a: F32 [4611686018427387904 2] does not fit in memory", "b: U8 [4294967296 4294967296 0] does not fit"}},
	{"size", container(`{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[],"data_offsets":[4,6]}}`, 6), []string{"a: F32 [2] takes 8 bytes, not 4", "b: U8 [] takes 1 bytes, not 2"}},
	{"outside", container(`{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}`, 3), []string{"a: bytes 0 to 4 of 3: outside the file"}},
	{"overlap", container(`{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[4],"data_offsets":[3,7]}}`, 7), []string{"b: bytes 3 to 7 overlap those of a, which ends at 4"}},
	{"nested", container(`{"a":{"dtype":"U8","shape":[6],"data_offsets":[0,6]},"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]},"c":{"dtype":"U8","shape":[2],"data_offsets":[4,6]}}`, 6), []string{"b: bytes 1 to 3 overlap those of a", "c: bytes 4 to 6 overlap those of a"}},
	{"hole", container(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]},"b":{"dtype":"U8","shape":[1],"data_offsets":[4,5]}}`, 5), []string{"a: a hole of 1 bytes before it, at 0", "b: a hole of 2 bytes before it, at 2"}},
	{"trailing", container(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}`, 4), []string{"3 bytes at the end belong to no tensor"}},
	{"metadata", container(`{"__metadata__":{"a":1,"b":"c","b":"d"}}`, 0), []string{`__metadata__: "a" is 1, not a string`, `"b" appears twice`}},
	{"metadata type", container(`{"__metadata__":"a"}`, 0), []string{"__metadata__: not a JSON object"}},
	{"deep", container(`{"a":`+strings.Repeat("[", 20000)+strings.Repeat("]", 20000)+`}`, 0), []string{"header: not JSON"}},
}

func TestParseTensorsErrors(t *testing.T) {
	for _, c := range bad {
		t.Run(c.name, func(t *testing.T) {
			_, err := checkpoint.ParseTensors("x.safetensors", c.data)
			require.Error(t, err)
			var place *checkpoint.Error
			require.ErrorAs(t, err, &place)
			require.Equal(t, "x.safetensors", place.File)
			for _, want := range c.want {
				require.ErrorContains(t, err, want)
			}
		})
	}
}

var good = []checkpoint.Draft{
	checkpoint.Tensor{Name: "b", DType: checkpoint.F32, Shape: []int{2, 1}, Data: []byte{0, 0, 128, 63, 0, 0, 0, 192}}.Draft(),
	checkpoint.Tensor{Name: "a.<\u2028é>", DType: checkpoint.I32, Shape: []int{1, 2}, Data: []byte{1, 0, 0, 0, 255, 255, 255, 255}}.Draft(),
	checkpoint.Tensor{Name: "none", DType: checkpoint.F16, Shape: []int{0, 3}}.Draft(),
	checkpoint.Tensor{Name: "scalar", DType: checkpoint.BF16, Data: []byte{0x80, 0x3f}}.Draft(),
	checkpoint.Tensor{Name: "half", DType: checkpoint.F16, Shape: []int{1}, Data: []byte{0, 0x3c}}.Draft(),
}

func TestTensors(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.safetensors")
	require.NoError(t, checkpoint.WriteTensorsFile(path, good, map[string]string{"format": "pt"}))
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Zero(t, (8+binary.LittleEndian.Uint64(data))%64)

	ts, err := checkpoint.OpenTensors(path)
	require.NoError(t, err)
	require.Equal(t, []string{"a.<\u2028é>", "b", "half", "none", "scalar"}, ts.Names())
	require.Equal(t, map[string]string{"format": "pt"}, ts.Metadata())
	b, ok := ts.Lookup("b")
	require.True(t, ok)
	require.Equal(t, checkpoint.F32, b.DType)
	require.Equal(t, []int{2, 1}, b.Shape)
	require.Equal(t, []byte{0, 0, 128, 63, 0, 0, 0, 192}, b.Data)

	f, shape, err := ts.Float32("b")
	require.NoError(t, err)
	require.Equal(t, []float32{1, -2}, f)
	require.Equal(t, []int{2, 1}, shape)
	for _, name := range []string{"scalar", "half"} {
		f, _, err = ts.Float32(name)
		require.NoError(t, err)
		require.Equal(t, []float32{1}, f)
	}
	n, shape, err := ts.Int32("a.<\u2028é>")
	require.NoError(t, err)
	require.Equal(t, []int32{1, -1}, n)
	require.Equal(t, []int{1, 2}, shape)

	_, _, err = ts.Float32("a.<\u2028é>")
	require.ErrorContains(t, err, "dtype is I32, want BF16, F16 or F32")
	_, _, err = ts.Int32("b")
	require.ErrorContains(t, err, "x.safetensors: b: dtype is F32, want I32")
	for _, read := range []func(string) error{
		func(s string) error { _, _, err := ts.Float32(s); return err },
		func(s string) error { _, _, err := ts.Int32(s); return err },
	} {
		err := read("nothing")
		require.ErrorIs(t, err, os.ErrNotExist)
		require.ErrorContains(t, err, "nothing")
	}
	require.NoError(t, ts.Close())
	require.NoError(t, ts.Close())
	require.Empty(t, ts.Names())
	_, ok = ts.Lookup("b")
	require.False(t, ok)
}

func TestOpenTensorsErrors(t *testing.T) {
	dir := t.TempDir()
	_, err := checkpoint.OpenTensors(filepath.Join(dir, "x.safetensors"))
	require.ErrorIs(t, err, os.ErrNotExist)
	_, err = checkpoint.OpenTensors(dir)
	require.ErrorContains(t, err, "not a regular file")
	for _, c := range bad {
		path := filepath.Join(dir, "x.safetensors")
		require.NoError(t, os.WriteFile(path, c.data, 0o666))
		_, err := checkpoint.OpenTensors(path)
		require.ErrorContains(t, err, path, c.name)
		require.ErrorContains(t, err, c.want[0][strings.LastIndex(c.want[0], "x.safetensors")+1:], c.name)
	}
}

func TestWriteTensorsErrors(t *testing.T) {
	tensor := func(name string, d checkpoint.DType, shape []int, n int) checkpoint.Draft {
		return checkpoint.Tensor{Name: name, DType: d, Shape: shape, Data: make([]byte, n)}.Draft()
	}
	failing := tensor("a", checkpoint.U8, []int{1}, 1)
	failing.Bytes = func() ([]byte, error) { return nil, errors.New("no bytes today") }
	for want, drafts := range map[string][]checkpoint.Draft{
		"a: the name is taken":                          {tensor("a", checkpoint.U8, nil, 1), tensor("a", checkpoint.U8, nil, 1)},
		"__metadata__: the name is taken":               {tensor("__metadata__", checkpoint.U8, nil, 1)},
		`a: dtype "F4" is not known`:                    {tensor("a", "F4", nil, 1)},
		"a: U8 [-1] does not fit in memory":             {tensor("a", checkpoint.U8, []int{-1}, 1)},
		fmt.Sprintf("b: U8 [%d] does not", math.MaxInt): {tensor("a", checkpoint.U8, []int{1}, 1), tensor("b", checkpoint.U8, []int{math.MaxInt}, 1)},
		"a: F32 [2] takes 8 bytes, not 7":               {tensor("a", checkpoint.F32, []int{2}, 7)},
		`"\xff": the name is not UTF-8`:                 {tensor("\xff", checkpoint.U8, nil, 1)},
		"a: no bytes today":                             {failing},
	} {
		err := checkpoint.WriteTensors(io.Discard, drafts, nil)
		require.ErrorContains(t, err, want)

		dir := t.TempDir()
		path := filepath.Join(dir, "x.safetensors")
		require.NoError(t, os.WriteFile(path, []byte("as before"), 0o666))
		require.ErrorContains(t, checkpoint.WriteTensorsFile(path, drafts, nil), want)
		entries, err := os.ReadDir(dir)
		require.NoError(t, err)
		require.Len(t, entries, 1, "the temporary file is gone")
		data, err := os.ReadFile(path)
		require.NoError(t, err)
		require.Equal(t, "as before", string(data))
	}
	require.ErrorContains(t, checkpoint.WriteTensors(io.Discard, nil, map[string]string{"a": "\xff"}), "is not UTF-8")
	require.Error(t, checkpoint.WriteTensorsFile(filepath.Join(t.TempDir(), "no", "x"), nil, nil))
}

// FuzzParseTensors checks that what parses can be written and parses again to
// the same tensors.
func FuzzParseTensors(f *testing.F) {
	for _, c := range bad {
		if len(c.data) < 1<<12 {
			f.Add(c.data)
		}
	}
	var b bytes.Buffer
	require.NoError(f, checkpoint.WriteTensors(&b, good, map[string]string{"format": "pt"}))
	f.Add(b.Bytes())
	f.Add(container(`{"a":{"data_offsets":[1,3],"shape":[ 1 , 1 ],"dtype":"F16"},"b":{"dtype":"U8","shape":[],"data_offsets":[0,1]}}   `, 3))
	f.Fuzz(func(t *testing.T, data []byte) {
		first, err := checkpoint.ParseTensors("x", data)
		if err != nil {
			return
		}
		var drafts []checkpoint.Draft
		for tensor := range first.All() {
			drafts = append(drafts, tensor.Draft())
			_, _, _ = first.Float32(tensor.Name)
			_, _, _ = first.Int32(tensor.Name)
		}
		var b bytes.Buffer
		require.NoError(t, checkpoint.WriteTensors(&b, drafts, first.Metadata()))
		second, err := checkpoint.ParseTensors("x", b.Bytes())
		require.NoError(t, err)
		require.Equal(t, first.Names(), second.Names())
		require.Equal(t, first.Metadata(), second.Metadata())
		for a := range first.All() {
			b, _ := second.Lookup(a.Name)
			require.Equal(t, a.DType, b.DType)
			require.Equal(t, a.Shape, b.Shape)
			require.Equal(t, a.Data, b.Data)
		}
	})
}
