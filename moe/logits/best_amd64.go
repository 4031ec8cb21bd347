package logits

import "golang.org/x/sys/cpu"

func best() loops {
	switch {
	case cpu.X86.HasAVX512F && cpu.X86.HasAVX512DQ:
		return loops{lanesAVX512, lanes4AVX512}
	case cpu.X86.HasAVX2 && cpu.X86.HasFMA:
		return loops{one: lanesAVX2}
	}
	return portable
}
