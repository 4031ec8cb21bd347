package simd

import (
	"github.com/klauspost/cpuid/v2"
	"golang.org/x/sys/cpu"
)

func hostSets() (sets []*Set) {
	x := cpu.X86
	if x.HasAVX512F && x.HasAVX512BW && x.HasAVX512DQ && x.HasAVX512VL && x.HasAVX512VBMI && x.HasAVX512VNNI && x.HasAVX512VBMI2 && x.HasAVX512GFNI {
		sets = append(sets, avx512Set())
	}
	if x.HasAVX2 && x.HasFMA && cpuid.CPU.Supports(cpuid.F16C) {
		sets = append(sets, avx2Set())
	}
	return sets
}

func avx2Set() *Set {
	products := everyWidth([]Multiplier{2: avx2Multiply2, 3: avx2Multiply3, 4: avx2Multiply4})
	products[8] = []Multiplier{2: avx2MultiplyWide2, 3: avx2MultiplyWide3, 4: avx2MultiplyWide4}
	exact := everyWidth([]Multiplier{1: avx2MultiplyExact1})
	exact[8] = []Multiplier{1: avx2MultiplyExactWide1}
	var spread [9]Spreader
	for bits, decode := range [9]func(panel, indices *byte, tiles int){
		2: avx2Spread2, 3: avx2Spread3, 4: avx2Spread4, 5: avx2Spread5, 6: avx2Spread6, 7: avx2Spread7, 8: avx2Spread8,
	} {
		if decode != nil {
			spread[bits] = decoder(decode)
		}
	}
	return &Set{
		Name:           "avx2",
		Quantize:       quantizer(avx2Quantize, nil, 1, 2),
		QuantizeExact:  quantizer(avx2QuantizeExact, nil, 4, 3),
		Dot:            avx2Dots,
		PanelRows:      2,
		PanelRowsExact: 1,
		Spread:         spread,
		SpreadExact:    spread,
		Multiply:       products,
		MultiplyExact:  exact,
		Silu:           avx2Silu,
		Scale:          avx2Scale,
		Sum:            avx2Sum,
	}
}

func avx512Set() *Set {
	products := everyWidth([]Multiplier{
		1: avx512Multiply1, 2: avx512Multiply2, 3: avx512Multiply3, 4: avx512Multiply4, 5: avx512Multiply5, 6: avx512Multiply6,
		7: avx512Multiply7, 8: avx512Multiply8, 9: avx512Multiply9, 10: avx512Multiply10, 11: avx512Multiply11,
		12: avx512Multiply12, 13: avx512Multiply13, 14: avx512Multiply14, 15: avx512Multiply15, 16: avx512Multiply16,
	})
	products[8] = []Multiplier{
		1: avx512MultiplyWide1, 2: avx512MultiplyWide2, 3: avx512MultiplyWide3, 4: avx512MultiplyWide4, 5: avx512MultiplyWide5,
		6: avx512MultiplyWide6, 7: avx512MultiplyWide7, 8: avx512MultiplyWide8, 9: avx512MultiplyWide9, 10: avx512MultiplyWide10,
		11: avx512MultiplyWide11, 12: avx512MultiplyWide12, 13: avx512MultiplyWide13, 14: avx512MultiplyWide14,
		15: avx512MultiplyWide15, 16: avx512MultiplyWide16,
	}
	return &Set{
		Name:           "avx512",
		Quantize:       quantizer(avx512Quantize, avx512QuantizeFour, 1, 2),
		QuantizeExact:  quantizer(avx512QuantizeExact, nil, 4, 3),
		Dot:            avx512Dots,
		DotExact:       avx512ExactDots,
		PanelRows:      21,
		PanelRowsExact: 5,
		Spread: [9]Spreader{
			2: avx512Spread2, 3: avx512Spread3, 4: avx512Spread4, 5: avx512Spread5, 6: avx512Spread6, 7: avx512Spread7, 8: avx512Spread8,
		},
		SpreadRows: 16,
		SpreadExact: [9]Spreader{
			2: avx512SpreadExact2, 3: avx512SpreadExact3, 4: avx512SpreadExact4, 5: avx512SpreadExact5,
			6: avx512SpreadExact6, 7: avx512SpreadExact7, 8: avx512SpreadExact8,
		},
		SpreadRowsExact: 4,
		Multiply:        products,
		MultiplyExact: everyWidth([]Multiplier{
			1: avx512MultiplyExact1, 2: avx512MultiplyExact2, 3: avx512MultiplyExact3,
			4: avx512MultiplyExact4, 5: avx512MultiplyExact5, 6: avx512MultiplyExact6,
		}),
		Silu:  avx512Silu,
		Scale: avx512Scale,
		Sum:   avx512Sum,
	}
}

// everyWidth returns kernels that do not depend on the width.
func everyWidth(kernels []Multiplier) (of [9][]Multiplier) {
	for bits := 2; bits <= 8; bits++ {
		of[bits] = kernels
	}
	return of
}
