package metallib_test

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/marlingen/marlingen/runtime/metallib"
)

func tag(name string, content ...byte) []byte {
	return slices.Concat([]byte(name), binary.LittleEndian.AppendUint16(nil, uint16(len(content))), content)
}

// entry returns a function as the format has it.
func entry(name string, kind byte) []byte {
	return sized(slices.Concat(
		tag("NAME", append([]byte(name), 0)...), tag("TYPE", kind), tag("HASH", make([]byte, 32)...),
		tag("MDSZ", make([]byte, 8)...), tag("OFFT", make([]byte, 24)...), tag("VERS", make([]byte, 8)...), []byte("ENDT"),
	))
}

func sized(tags []byte) []byte {
	return append(binary.LittleEndian.AppendUint32(nil, uint32(len(tags)+4)), tags...)
}

// library returns a file with these entries, and others than are counted.
func library(count int, entries ...[]byte) []byte {
	le := binary.LittleEndian
	list := slices.Concat(entries...)
	rest := []byte("metadata and bitcode")
	data := slices.Concat([]byte("MTLB"), []byte{1, 0x80, 2, 0, 8, 0, 0, 0x81, 15, 0, 0, 0}, make([]byte, 8))
	at := uint64(88 + 4 + len(list))
	for _, section := range [][2]uint64{{88, uint64(len(list))}, {at, 8}, {at, 0}, {at, uint64(len(rest))}} {
		data = le.AppendUint64(le.AppendUint64(data, section[0]), section[1])
	}
	data = slices.Concat(le.AppendUint32(data, uint32(count)), list, rest)
	le.PutUint64(data[16:], uint64(len(data)))
	return data
}

func TestFunctions(t *testing.T) {
	functions, err := metallib.Functions(library(3, entry("moe_route", 2), entry("moe_combine", 2), entry("shade", 1)))
	require.NoError(t, err)
	require.Equal(t, []metallib.Function{
		{Name: "moe_route", Type: metallib.Kernel}, {Name: "moe_combine", Type: metallib.Kernel}, {Name: "shade", Type: metallib.Fragment},
	}, functions)

	functions, err = metallib.Functions(library(0))
	require.NoError(t, err)
	require.Empty(t, functions)
}

func TestFunctionsRefuses(t *testing.T) {
	one := entry("moe_route", 2)
	good := library(1, one)
	patch := func(at int, b ...byte) []byte {
		p := bytes.Clone(good)
		copy(p[at:], b)
		return p
	}
	bare := func(tags ...[]byte) []byte { return library(1, sized(append(slices.Concat(tags...), "ENDT"...))) }
	name, kind := tag("NAME", 'a', 0), tag("TYPE", 2)
	for want, data := range map[string][]byte{
		"does not begin with a header":                 patch(0, 'm'),
		"not a Metal library":                          nil,
		"; there are 240":                              append(bytes.Clone(good), 0),
		"the header says 0 bytes":                      patch(16, make([]byte, 8)...),
		"a section of 127 bytes at 87":                 patch(24, 87),
		"bytes at 4294967384":                          patch(28, 1),
		"a section of 65663 bytes":                     patch(34, 1),
		"the number of functions: there are 1 bytes":   patch(24, 238, 0, 0, 0, 0, 0, 0, 0, 0),
		"the list of functions has 150 bytes":          patch(32, 150),
		"16 functions do not fit into 127 bytes":       patch(88, 16),
		"after 0 functions, 127 bytes of the list":     patch(88, 0),
		"at byte 219: the size of a function":          patch(88, 2),
		"after 1 functions, 3 bytes":                   library(1, one, []byte("end")),
		"function moe_route is there twice":            library(2, one, one),
		"function moe_route says it has 124 bytes":     patch(92, 124),
		"tag NAME: there are ":                         patch(100, 0xff, 0xff),
		"a tag: there are 0 bytes":                     library(1, one[:len(one)-4]),
		"a function without NAME or TYPE":              bare(name),
		"a type of 2 bytes":                            bare(name, tag("TYPE", 2, 0)),
		`tag "TYPE" is there twice`:                    bare(name, kind, kind),
		`"ab" is no name with a zero after it`:         bare(tag("NAME", 'a', 'b'), kind),
		`"a\x00b\x00" is no name with a zero`:          bare(tag("NAME", 'a', 0, 'b', 0), kind),
		`"\x00" is no name with a zero after it`:       bare(tag("NAME", 0), kind),
		`"\xff\x00" is no name with a zero after it`:   bare(tag("NAME", 0xff, 0), kind),
		"the size of a tag: there are 0 bytes, and it": patch(215, []byte("ENDX")...),
	} {
		_, err := metallib.Functions(data)
		require.ErrorContains(t, err, want)
	}
	for n := range good { // no part of a file is one
		_, err := metallib.Functions(good[:n])
		require.Error(t, err, "%d bytes", n)
	}
}

// No bytes make a library that panics, or more functions than there is room for.
func FuzzFunctions(f *testing.F) {
	f.Add(library(2, entry("moe_route", 2), entry("moe_combine", 2)))
	f.Add(library(0))
	f.Fuzz(func(t *testing.T, data []byte) {
		functions, err := metallib.Functions(data)
		if err == nil {
			require.LessOrEqual(t, len(functions)*22, len(data))
		}
	})
}
