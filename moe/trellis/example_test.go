package trellis_test

import (
	"context"
	"fmt"
	"math"

	"github.com/marlingen/marlingen/moe/trellis"
)

func Example() {
	const out, in = 16, 128
	w := make([]float32, out*in)
	for i := range w {
		w[i] = float32(math.Sin(float64(i)))
	}

	t, err := trellis.Quantize(context.Background(), w, out, in, 3, trellis.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	v, err := t.Dequantize()
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, c := range trellis.Components {
		fmt.Println(c, c.Shape(t.Bits, out, in), c.Size(t.Bits, out, in), "bytes")
	}
	fmt.Printf("%.2f became %.2f\n", w[5], v[5])
	// Output:
	// indices [1 8 96] 768 bytes
	// scales [1 16] 32 bytes
	// su [128] 256 bytes
	// sv [16] 32 bytes
	// -0.96 became -0.93
}
