package simd

import (
	"github.com/klauspost/cpuid/v2"
	"golang.org/x/sys/cpu"
)

func hostSets() (sets []*Set) {
	x := cpu.X86
	if x.HasAVX512F && x.HasAVX512BW && x.HasAVX512DQ && x.HasAVX512VL && x.HasAVX512VBMI && x.HasAVX512VNNI {
		sets = append(sets, avx512Set())
	}
	if x.HasAVX2 && cpuid.CPU.Supports(cpuid.F16C) {
		sets = append(sets, avx2Set())
	}
	return sets
}

func avx2Set() *Set {
	products := everyWidth([]Multiplier{2: avx2Multiply2, 3: avx2Multiply3, 4: avx2Multiply4})
	products[8] = []Multiplier{2: avx2MultiplyWide2, 3: avx2MultiplyWide3, 4: avx2MultiplyWide4}
	exact := everyWidth([]Multiplier{1: avx2MultiplyExact1})
	exact[8] = []Multiplier{1: avx2MultiplyExactWide1}
	return &Set{
		Name:          "avx2",
		Quantize:      avx2Quantize,
		QuantizeExact: avx2QuantizeExact,
		Dot:           avx2Dots,
		Spread: [9]func(panel, indices *byte, tiles int){
			2: avx2Spread2, 3: avx2Spread3, 4: avx2Spread4, 5: avx2Spread5, 6: avx2Spread6, 7: avx2Spread7, 8: avx2Spread8,
		},
		Multiply:      products,
		MultiplyExact: exact,
		Silu:          avx2Silu,
		Scale:         avx2Scale,
		Add:           avx2Add,
	}
}

func avx512Set() *Set {
	return &Set{
		Name:          "avx512",
		Quantize:      avx512Quantize,
		QuantizeExact: avx512QuantizeExact,
		Dot:           avx512Dots,
		DotExact:      avx512ExactDots,
		Silu:          avx512Silu,
		Scale:         avx512Scale,
		Add:           avx512Add,
	}
}

// everyWidth returns kernels that do not depend on the width.
func everyWidth(kernels []Multiplier) (of [9][]Multiplier) {
	for bits := 2; bits <= 8; bits++ {
		of[bits] = kernels
	}
	return of
}
