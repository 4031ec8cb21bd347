package logits

import "golang.org/x/sys/cpu"

func best() loops {
	switch {
	case cpu.X86.HasAVX512F:
		return avx512
	case cpu.X86.HasAVX2 && cpu.X86.HasFMA:
		return avx2
	}
	return portable
}

var (
	avx512 = loops{
		token: tokenAVX512,
		tile: []func(sums *lanes, w, x *float64, n int){
			tile1AVX512, tile2AVX512, tile3AVX512, tile4AVX512, tile5AVX512, tile6AVX512,
		},
		widen: widenAVX512,
	}
	avx2 = loops{token: tokenAVX2, widen: widenPortable}
)
