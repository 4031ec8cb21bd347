package msl_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/marlingen/marlingen/generated"
	"github.com/marlingen/marlingen/runtime/msl"
)

var want = regexp.MustCompile(`// want "(.*)"$`)

// TestCheck checks the texts of testdata. An error that is expected stands in a
// comment on the line that causes it.
func TestCheck(t *testing.T) {
	files, err := filepath.Glob("testdata/check/*.metal")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			text, err := os.ReadFile(file)
			require.NoError(t, err)
			ds, err := msl.Check(t.Context(), file, string(text))
			skip(t, err)
			found := make(map[int][]string)
			for _, d := range ds {
				if d.Severity == msl.Note {
					continue
				}
				assert.Equal(t, file, d.File, "%v", d)
				found[d.Line] = append(found[d.Line], d.Message)
			}
			for i, line := range strings.Split(string(text), "\n") {
				m := want.FindStringSubmatch(line)
				messages := found[i+1]
				if m == nil {
					assert.Empty(t, messages, "line %d: %s", i+1, line)
					continue
				}
				assert.Regexp(t, m[1], strings.Join(messages, "\n"), "line %d: %s", i+1, line)
			}
		})
	}
}

func TestCheckPlaces(t *testing.T) {
	ds, err := msl.Check(t.Context(), "x.metal", `#include <metal_stdlib>
using namespace metal;
#line 20 "specs/x.yaml"
kernel void a(device float* y [[buffer(0)]], device float* z [[buffer(0)]]) {}
#line 7 "templates/y.metal"

kernel void b(device float* y [[buffer(0)]]) { y[0] = missing(1); }
`)
	skip(t, err)
	require.Len(t, ds, 2, "%v", ds)
	assert.Equal(t, "specs/x.yaml:20:46: error: a: buffer index 0 is that of y and of z", ds[0].String())
	assert.Regexp(t, `^templates/y.metal:8:55: error: use of undeclared identifier 'missing'`, ds[1].String())
}

func TestCheckMacros(t *testing.T) {
	ds, err := msl.Check(t.Context(), "x.metal", `#include <metal_stdlib>
#define KERNEL(name, T) kernel void name(device T* y [[buffer(0)]]) { y[0] = T(1); }
using namespace metal;
KERNEL(a, float)
KERNEL(b, nothing)
#if __METAL_VERSION__ < 100
not metal
#endif
`)
	skip(t, err)
	require.NotEmpty(t, ds)
	for _, d := range ds {
		assert.Equal(t, "x.metal:5", fmt.Sprintf("%s:%d", d.File, d.Line), "%v", d)
	}
}

// TestGenerated checks what ships.
func TestGenerated(t *testing.T) {
	for _, s := range generated.Manifest.Sources {
		t.Run(s.Name, func(t *testing.T) {
			text, err := fs.ReadFile(generated.Sources, s.Name)
			require.NoError(t, err)
			ds, err := msl.CheckSource(t.Context(), generated.All, s.Name, string(text))
			skip(t, err)
			for _, d := range ds {
				t.Error(d)
			}
		})
	}
}
