package simd

import "golang.org/x/sys/cpu"

func hostSets() (sets []*Set) {
	if x := cpu.X86; x.HasAVX512F && x.HasAVX512BW && x.HasAVX512DQ && x.HasAVX512VL && x.HasAVX512VBMI && x.HasAVX512VNNI {
		sets = append(sets, avx512Set())
	}
	return sets
}

func avx512Set() *Set {
	return &Set{
		Name:          "avx512",
		Quantize:      avx512Quantize,
		QuantizeExact: avx512QuantizeExact,
		Dot:           [9]Dotter{2: avx512Dot2, 3: avx512Dot3, 4: avx512Dot4, 5: avx512Dot5, 6: avx512Dot6, 7: avx512Dot7, 8: avx512Dot8},
		Spread: [9]func(panel, indices *byte, tiles int){
			2: avx512Spread2, 3: avx512Spread3, 4: avx512Spread4, 5: avx512Spread5, 6: avx512Spread6, 7: avx512Spread7, 8: avx512Spread8,
		},
		Multiply: []Multiplier{
			2: avx512Multiply2, 3: avx512Multiply3, 4: avx512Multiply4, 5: avx512Multiply5, 6: avx512Multiply6,
			7: avx512Multiply7, 8: avx512Multiply8, 9: avx512Multiply9, 10: avx512Multiply10, 11: avx512Multiply11,
			12: avx512Multiply12, 13: avx512Multiply13, 14: avx512Multiply14, 15: avx512Multiply15, 16: avx512Multiply16,
		},
		MultiplyExact: []Multiplier{
			1: avx512MultiplyExact1, 2: avx512MultiplyExact2, 3: avx512MultiplyExact3,
			4: avx512MultiplyExact4, 5: avx512MultiplyExact5, 6: avx512MultiplyExact6,
		},
		Silu:  avx512Silu,
		Scale: avx512Scale,
	}
}
