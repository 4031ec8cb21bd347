package limits

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
)

// The loops of the machine read all, and do what they say.
func TestLoops(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	p := make([]byte, 7*512)
	want := uint64(0)
	for i := 0; i < len(p); i += 8 {
		w := r.Uint64()
		binary.LittleEndian.PutUint64(p[i:], w)
		want ^= w
	}
	require.Equal(t, want, portable.read(p))
	for _, l := range all(t) {
		require.Equal(t, want, l.read(p), l.names.Read)
		count(t, l.dot, l.names.Int8)
		count(t, l.fma, l.names.FP32)
	}
}

// count holds a loop to a number of products that grows with its turns.
func count[T uint32 | float32](t *testing.T, loop func(int, *[16]T), name string) {
	if loop == nil {
		require.Empty(t, name)
		return
	}
	sum := func(turns int) (sum T) {
		var sums [16]T
		loop(turns, &sums)
		for _, s := range sums {
			sum += s
		}
		return sum
	}
	require.Greater(t, sum(1), T(16), name)
	require.Equal(t, 5*sum(1), sum(5), name)
}

// all returns the loops that the machine can run.
func all(t *testing.T) []loops {
	t.Helper()
	ls := []loops{machine}
	if runtime.GOARCH == "amd64" && machine.names != portable.names {
		ls = append(ls, lesser()...)
	}
	return ls
}

func TestSample(t *testing.T) {
	m, err := NewMeter(make([]byte, 5*piece))
	require.NoError(t, err)
	var samples []Sample
	for range 3 {
		s, err := m.Sample(1)
		require.NoError(t, err)
		require.Positive(t, s.Read)
		require.Equal(t, machine.dot != nil, s.Int8 > 0)
		require.Equal(t, machine.fma != nil, s.FP32 > 0)
		samples = append(samples, s)
	}
	l := Of(1, samples)
	require.Equal(t, 3, l.Samples)
	require.GreaterOrEqual(t, l.Read.Best, l.Read.Median)
	_, err = m.Sample(runtime.GOMAXPROCS(0) + 1)
	require.ErrorContains(t, err, "threads")
	_, err = NewMeter(nil)
	require.ErrorContains(t, err, "0 bytes to read")
}

func TestOf(t *testing.T) {
	l := Of(2, []Sample{{Read: 3}, {Read: 1}, {Read: 7}, {Read: 4}})
	require.Equal(t, Limits{Threads: 2, Samples: 4, Read: Limit{Median: 3.5, Best: 7}}, l)
	require.Equal(t, Limits{Threads: 1}, Of(1, nil))
}

// The figures of this machine, with all its threads.
func BenchmarkSample(b *testing.B) {
	m, err := NewMeter(touched(1 << 30))
	require.NoError(b, err)
	for threads := 1; threads <= runtime.GOMAXPROCS(0); threads *= 2 {
		b.Run(fmt.Sprintf("threads=%d", threads), func(b *testing.B) {
			var samples []Sample
			for b.Loop() {
				s, err := m.Sample(threads)
				require.NoError(b, err)
				samples = append(samples, s)
			}
			l := Of(threads, samples)
			b.ReportMetric(l.Read.Median, "GB/s")
			b.ReportMetric(l.Int8.Median, "int8-GMAC/s")
			b.ReportMetric(l.FP32.Median, "fp32-GMAC/s")
		})
	}
}

// touched returns n bytes that the system really gave.
func touched(n int) []byte {
	b := make([]byte, n)
	for i := 0; i < n; i += 4096 {
		b[i] = 1
	}
	return b
}
