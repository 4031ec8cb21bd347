package limits

import "golang.org/x/sys/cpu"

func best() loops {
	l := portable
	if cpu.X86.HasAVX2 && cpu.X86.HasFMA {
		l = avx2
	}
	if cpu.X86.HasAVX512F && cpu.X86.HasAVX512BW && cpu.X86.HasAVX512DQ {
		l.read, l.names.Read = avx512.read, avx512.names.Read
		l.fma, l.names.FP32 = avx512.fma, avx512.names.FP32
		if cpu.X86.HasAVX512VNNI {
			l.dot, l.names.Int8 = avx512.dot, avx512.names.Int8
		}
	}
	return l
}

var avx2 = loops{
	read: func(p []byte) uint64 {
		var words [8]uint64
		readAVX2(&p[0], len(p), &words)
		return xor(&words)
	},
	dot:   dotAVX2,
	fma:   fmaAVX2,
	names: Instructions{"32-byte loads", "VPMADDUBSW, VPMADDWD, VPADDD on 32 bytes", "VFMADD231PS on 32 bytes"},
}

var avx512 = loops{
	read: func(p []byte) uint64 {
		var words [8]uint64
		readAVX512(&p[0], len(p), &words)
		return xor(&words)
	},
	dot:   dotVNNI,
	fma:   fmaAVX512,
	names: Instructions{"64-byte loads", "VPDPBUSD on 64 bytes", "VFMADD231PS on 64 bytes"},
}
