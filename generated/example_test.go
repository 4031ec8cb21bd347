package generated_test

import (
	"context"
	"fmt"
	"log"

	"github.com/marlingen/marlingen/generated"
	"github.com/marlingen/marlingen/runtime"
	"github.com/marlingen/marlingen/runtime/cpu"
)

// A device says what it has of the table, and a kernel is chosen from that.
func Example() {
	device := cpu.New(cpu.Options{})
	defer device.Close()
	library, err := device.Load(context.Background(), generated.Table, generated.Sources)
	if err != nil {
		log.Fatal(err)
	}
	defer library.Close()

	request := runtime.Request{
		Pass:  runtime.GateUp,
		Codec: "trellis",
		Tuple: runtime.BitTuple{Gate: 6, Up: 2, Down: 3},
		Rows:  1,
	}
	choice, err := runtime.Select(generated.Table, library.Availability(), request)
	if err != nil {
		log.Fatal(err)
	}
	shape := runtime.Shape{Hidden: 2048, Intermediate: 1536, Items: 4}
	fmt.Println(choice.Kernel.Symbol)
	fmt.Println(choice.Kernel.Threads, "threads ×", choice.Kernel.Groups(shape), "threadgroups")

	request.Tuple = runtime.BitTuple{Gate: 7, Up: 7, Down: 7}
	choice, err = runtime.Select(generated.Table, library.Availability(), request)
	fmt.Println(choice.Kernel.Symbol, err)
	fmt.Println(choice.Why())

	_, err = runtime.Select(generated.Table, runtime.Availability{}, request)
	fmt.Println(err)
	// Output:
	// moe_trellis_swiglu_decode_6_2_3
	// 128 threads × [4 96 1] threadgroups
	// moe_trellis_swiglu_decode <nil>
	// a tuple kernel: unlisted; a fairway kernel: unlisted
	// no kernel for gate_up of trellis 7_7_7 with 1 rows: a tuple kernel: unlisted; a fairway kernel: unlisted; moe_trellis_swiglu_decode: missing: add the line "- 7_7_7" to tuples in specs/codecs/trellis.yaml and run go generate ./...
}
