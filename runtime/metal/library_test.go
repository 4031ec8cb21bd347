//go:build darwin || linux

package metal_test

import (
	"context"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"github.com/marlingen/marlingen/generated"
	"github.com/marlingen/marlingen/runtime"
	"github.com/marlingen/marlingen/runtime/devicetest"
	"github.com/marlingen/marlingen/runtime/metal"
	"github.com/marlingen/marlingen/runtime/metal/internal/fake"
)

// kernelIn reports whether a source defines a kernel.
func kernelIn(source, symbol string) bool {
	return strings.Contains(source, "kernel void "+symbol+"(") || strings.Contains(source, `host_name("`+symbol+`")`)
}

// A source that does not compile takes its own kernels along, and no others.
func TestSourceFails(t *testing.T) {
	dev, _ := openFake(t, fake.Options{Fail: func(selector, what string) string {
		if selector == "newLibraryWithSource:options:error:" && kernelIn(what, generated.MoeCombine) {
			return "program_source:7:3: error: use of undeclared identifier 'tokens'"
		}
		return ""
	}})
	have := load(t, dev, generated.Table, generated.Sources).Availability()
	for _, k := range generated.Table.Kernels {
		want := runtime.Status{State: runtime.Present}
		if k.Source == "helpers.metal" {
			want = runtime.Status{State: runtime.Failed, Words: "helpers.metal: program_source:7:3: error: use of undeclared identifier 'tokens' (FakeErrorDomain 3)"}
		}
		require.Equal(t, want, have.Of(k), k.Symbol)
	}
}

// What a pipeline says of itself is held to the table.
func TestPipelineLimits(t *testing.T) {
	k := generated.Table.Kernel(generated.MoeRoute)
	for want, limits := range map[string][3]int{
		"a threadgroup of 512 threads; the GPU takes 511 of this kernel": {511, 32, 0},
		"simdgroups of 64 threads; the kernels are written for 32":       {1024, 64, 0},
		"257 bytes of threadgroup memory, and 0 in the table":            {1024, 32, 257},
		"": {512, 32, 256},
	} {
		dev, _ := openFake(t, fake.Options{Limits: func(*runtime.Kernel) (threads, width, memory int) { return limits[0], limits[1], limits[2] }})
		have := load(t, dev, &runtime.Table{Kernels: []*runtime.Kernel{k}}, generated.Sources).Availability().Of(k)
		require.Equal(t, want, have.Words)
		require.Equal(t, want == "", have.State == runtime.Present)
	}
}

func TestMissing(t *testing.T) {
	dev, _ := openFake(t, fake.Options{})
	body := *generated.Table.Kernel(generated.MoeCombine).Body
	elsewhere := body
	elsewhere.Source = "elsewhere.metal"
	table := &runtime.Table{Kernels: []*runtime.Kernel{
		{Body: &body, Symbol: "moe_no_such"}, {Body: &elsewhere, Symbol: "moe_elsewhere"}, {Symbol: "moe_bodiless"},
	}}
	have := load(t, dev, table, generated.Sources).Availability()
	require.Equal(t, runtime.Status{State: runtime.Missing, Words: "helpers.metal defines no kernel of this name"}, have["moe_no_such"])
	require.Equal(t, runtime.Missing, have["moe_elsewhere"].State)
	require.Contains(t, have["moe_elsewhere"].Words, "no source: open elsewhere.metal")
	require.Equal(t, runtime.Status{State: runtime.Failed, Words: "the kernel has no body"}, have["moe_bodiless"])
}

// A compiled library is taken if it is of the digest that the device was opened
// with, and refused otherwise.
func TestMetallib(t *testing.T) {
	names := []string{}
	for _, k := range generated.Table.Kernels {
		names = append(names, k.Symbol)
	}
	digest := func(d string) string {
		name, _, ok := strings.Cut(strings.TrimPrefix(metal.DigestSource(d), "kernel void "), "(")
		require.True(t, ok)
		return name
	}
	right := generated.Manifest.Digest
	for name, test := range map[string]struct {
		data   []byte
		digest string
		want   string // error
	}{
		"right":        {fake.Metallib(append(names, digest(right))...), right, ""},
		"stale":        {fake.Metallib(append(names, digest("0123"))...), right, "metal: marlin.metallib is of digest 0123, want " + right + ": compile it anew with marlingen compile, or remove it"},
		"no digest":    {fake.Metallib(names...), right, "metal: marlin.metallib is of digest none, want " + right + ": compile it anew with marlingen compile, or remove it"},
		"none to want": {fake.Metallib(append(names, digest(right))...), "", "metal: marlin.metallib is of digest " + right + ", and the device was opened without one to compare"},
		"no library":   {[]byte("nonsense"), right, "metal: marlin.metallib: Invalid library file (FakeErrorDomain 3)"},
	} {
		t.Run(name, func(t *testing.T) {
			rt := fake.New(fake.Options{Table: generated.Table})
			dev := openOn(t, rt, metal.Options{Digest: test.digest})
			lib, err := dev.Load(t.Context(), generated.Table, withMetallib(test.data))
			if test.want != "" {
				require.EqualError(t, err, test.want)
			} else {
				require.NoError(t, err)
				require.Zero(t, rt.Sent("newLibraryWithSource:options:error:"))
				for _, k := range generated.Table.Kernels {
					require.Equal(t, runtime.Status{State: runtime.Present}, lib.Availability().Of(k))
				}
				require.NoError(t, devicetest.CheckKernel(t.Context(), dev, lib, generated.Table, generated.Table.Kernel(generated.MoeCombine), devicetest.Options{Short: true}))
				require.NoError(t, lib.Close())
			}
			require.NoError(t, dev.Close())
			require.Empty(t, rt.Left())
		})
	}
}

// unreadable is a file system whose compiled library cannot be read.
type unreadable struct{ fs.FS }

func (u unreadable) Open(name string) (fs.File, error) {
	if name == metal.MetallibName {
		return nil, fs.ErrPermission
	}
	return u.FS.Open(name)
}

func TestLoadErrors(t *testing.T) {
	dev, _ := openFake(t, fake.Options{})
	_, err := dev.Load(t.Context(), generated.Table, unreadable{generated.Sources})
	require.ErrorIs(t, err, fs.ErrPermission)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = dev.Load(ctx, generated.Table, generated.Sources)
	require.ErrorIs(t, err, context.Canceled)

	lib := load(t, dev, generated.Table, fstest.MapFS{"helpers.metal": {Data: []byte("\xff")}})
	require.Contains(t, lib.Availability()[generated.MoeCombine].Words, "not a text in UTF-8")

	require.NoError(t, dev.Close())
	_, err = dev.Load(t.Context(), generated.Table, generated.Sources)
	require.ErrorContains(t, err, "closed device")
	_, err = lib.NewQueue()
	require.ErrorContains(t, err, "closed device")
}
