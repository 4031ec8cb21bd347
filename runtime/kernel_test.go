package runtime_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/marlingen/marlingen/runtime"
)

// The arguments of a launch are in the order of the kernel's row.
func TestKernelLaunch(t *testing.T) {
	k := &runtime.Kernel{Symbol: "k", Body: &runtime.Body{Bindings: []runtime.Binding{
		{Name: "y", Type: "float", Access: runtime.Write},
		{Name: "shape", Type: "Shape", Access: runtime.Constant},
		{Name: "x", Type: "float", Access: runtime.Read},
	}}}
	s := runtime.Shape{Tokens: 3, Items: 2}
	args := map[string]runtime.Arg{"x": {Offset: 16}, "y": {Offset: 32}, "z": {Offset: 48}}
	l, err := k.Launch(s, args)
	require.NoError(t, err)
	require.Equal(t, runtime.Launch{Kernel: k, Shape: s, Args: []runtime.Arg{args["y"], {Bytes: runtime.AppendShape(nil, s)}, args["x"]}}, l)
	delete(args, "x")
	_, err = k.Launch(s, args)
	require.EqualError(t, err, "launch of k: no argument called x")
}

func TestAppendWork(t *testing.T) {
	k := &runtime.Kernel{Body: &runtime.Body{Tile: 4}}
	list := k.AppendWork([]runtime.Work{{Expert: 1, First: 0, Rows: 2}}, 3, 2, 9)
	require.Equal(t, []runtime.Work{
		{Expert: 1, First: 0, Rows: 2}, {Expert: 3, First: 2, Rows: 4}, {Expert: 3, First: 6, Rows: 4}, {Expert: 3, First: 10, Rows: 1},
	}, list)
	require.Empty(t, k.AppendWork(nil, 3, 2, 0))
}
