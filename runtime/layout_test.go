package runtime_test

import (
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/marlingen/marlingen/runtime"
)

// Structs lie in arguments as their fields lie in Go.
func TestLayout(t *testing.T) {
	shape := runtime.Shape{Tokens: 1, Slots: 2, Experts: 3, Hidden: 4, Intermediate: 5, Rows: 6, Items: 7}
	routing := runtime.Routing{TopK: 1, Groups: 2, TopKGroups: 3, Normalize: 4, Scale: 5.5}
	work := runtime.Work{Expert: 1, First: 2, Rows: 3 << 16}
	for _, test := range []struct {
		value any
		got   []byte
	}{
		{shape, runtime.AppendShape(nil, shape)},
		{routing, runtime.AppendRouting(nil, routing)},
		{work, runtime.AppendWork(nil, work)},
	} {
		want, err := binary.Append(nil, binary.LittleEndian, test.value)
		require.NoError(t, err)
		require.Equal(t, want, test.got)
	}
}
