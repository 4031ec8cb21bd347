package marlingen_test

import (
	"context"
	"fmt"
	"log"

	"github.com/marlingen/marlingen"
	"github.com/marlingen/marlingen/generated"
	"github.com/marlingen/marlingen/moe"
	"github.com/marlingen/marlingen/moe/checkpoint"
	"github.com/marlingen/marlingen/moe/trellis"
	"github.com/marlingen/marlingen/runtime/cpu"
)

// A layer of a real model: what is generated, a device, and a checkpoint.
func Example() {
	ctx := context.Background()
	device := cpu.New(cpu.Options{})
	defer device.Close()
	library, err := device.Load(ctx, generated.Table, generated.Sources)
	if err != nil {
		log.Fatal(err)
	}
	defer library.Close()
	model, err := checkpoint.OpenFS(marlingen.GlmTinyMixed()) // or Open, for a folder
	if err != nil {
		log.Fatal(err)
	}
	defer model.Close()
	weights, err := model.Layer(1)
	if err != nil {
		log.Fatal(err)
	}
	layer, err := moe.NewLayer(weights, moe.Options{
		Device: device, Library: library, Table: generated.Table,
		Codecs: []moe.Codec{trellis.Codec{}},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer layer.Close()

	x := make([]float32, 2*weights.Hidden) // two tokens
	for i := range x {
		x[i] = float32(i%7) - 3
	}
	y, err := layer.Forward(ctx, x)
	if err != nil {
		log.Fatal(err)
	}
	s := layer.Counters().Snapshot()
	rows := uint64(0)
	for _, n := range s.Assignments {
		rows += n
	}
	fmt.Println(len(y), "outputs from", rows, "assignments;", len(s.Fallbacks), "fallbacks")
	// Output: 512 outputs from 10 assignments; 0 fallbacks
}
