#include "textflag.h"

// Instructions that the assembler lacks, on the numbers of vector registers.
#define USHL(m, n, d) WORD $(0x6e604400 | (m)<<16 | (n)<<5 | (d)) // d.H8 = n.H8 << m.H8
#define SCVTF(n, d) WORD $(0x4e21d800 | (n)<<5 | (d)) // d.S4 = n.S4, as floats
#define FCVTL(n, d) WORD $(0x0e217800 | (n)<<5 | (d)) // d.S4 = the low half of n.H8, as floats
#define FCVTL2(n, d) WORD $(0x4e217800 | (n)<<5 | (d)) // d.S4 = the high half of n.H8, as floats
#define FMUL(m, n, d) WORD $(0x6e20dc00 | (m)<<16 | (n)<<5 | (d)) // d.S4 = n.S4·m.S4
#define SDOT(m, n, d) WORD $(0x4e809400 | (m)<<16 | (n)<<5 | (d)) // d.S4 += n.B16 · m.B16, by fours

// ROW makes indices less 128 of the 16 bytes in V0: fields to words, the words
// to their low bits, their low bytes, and of these the bits of an index.
#define ROW(low, high) \
	VTBL low, [V0.B16], V1.B16; \
	VTBL high, [V0.B16], V2.B16; \
	USHL(20, 1, 1); \
	USHL(21, 2, 2); \
	VUZP1 V2.B16, V1.B16, V3.B16; \
	VAND V22.B16, V3.B16, V3.B16; \
	VEOR V23.B16, V3.B16, V3.B16; \
	VST1.P [V3.B16], 16(R0)

// func neonSpread(panel, indices *byte, tiles int, f *neonFields)
TEXT ·neonSpread(SB), NOSPLIT, $0-32
	MOVD panel+0(FP), R0
	MOVD indices+8(FP), R1
	MOVD tiles+16(FP), R2
	MOVD f+24(FP), R3
	VLD1.P 64(R3), [V16.B16, V17.B16, V18.B16, V19.B16]
	VLD1.P 64(R3), [V20.B16, V21.B16, V22.B16, V23.B16]
	MOVD (R3), R4  // bytes of a row
	MOVD 8(R3), R5 // bytes of 16 before the last row
tile:
	MOVD $8, R6
first:
	VLD1 (R1), [V0.B16]
	ADD  R4, R1
	ROW(V16.B16, V17.B16)
	SUBS $1, R6
	BNE  first
	SUB  R5, R1
	MOVD $8, R6
second:
	VLD1 (R1), [V0.B16]
	ADD  R4, R1
	ROW(V18.B16, V19.B16)
	SUBS $1, R6
	BNE  second
	ADD  R5, R1
	SUBS $1, R2
	BNE  tile
	RET

#define ZERO(a, b, c, d) \
	VEOR a, a, a; \
	VEOR b, b, b; \
	VEOR c, c, c; \
	VEOR d, d, d

#define ZERO16 \
	ZERO(V0.B16, V1.B16, V2.B16, V3.B16); \
	ZERO(V4.B16, V5.B16, V6.B16, V7.B16); \
	ZERO(V8.B16, V9.B16, V10.B16, V11.B16); \
	ZERO(V12.B16, V13.B16, V14.B16, V15.B16)

// func neonSums(sums *[16]int32, panel *byte, acts *int8, stride, tiles int)
TEXT ·neonSums(SB), NOSPLIT, $0-40
	MOVD sums+0(FP), R0
	MOVD panel+8(FP), R1
	MOVD acts+16(FP), R2
	MOVD stride+24(FP), R3
	MOVD tiles+32(FP), R4
	ZERO16
loop:
	VLD1 (R2), [V24.B16]
	ADD  R3, R2
	VLD1.P 64(R1), [V16.B16, V17.B16, V18.B16, V19.B16]
	SDOT(24, 16, 0)
	SDOT(24, 17, 1)
	SDOT(24, 18, 2)
	SDOT(24, 19, 3)
	VLD1.P 64(R1), [V20.B16, V21.B16, V22.B16, V23.B16]
	SDOT(24, 20, 4)
	SDOT(24, 21, 5)
	SDOT(24, 22, 6)
	SDOT(24, 23, 7)
	VLD1.P 64(R1), [V16.B16, V17.B16, V18.B16, V19.B16]
	SDOT(24, 16, 8)
	SDOT(24, 17, 9)
	SDOT(24, 18, 10)
	SDOT(24, 19, 11)
	VLD1.P 64(R1), [V20.B16, V21.B16, V22.B16, V23.B16]
	SDOT(24, 20, 12)
	SDOT(24, 21, 13)
	SDOT(24, 22, 14)
	SDOT(24, 23, 15)
	SUBS $1, R4
	BNE  loop
	VADDV V0.S4, V0
	VADDV V1.S4, V1
	VADDV V2.S4, V2
	VADDV V3.S4, V3
	VADDV V4.S4, V4
	VADDV V5.S4, V5
	VADDV V6.S4, V6
	VADDV V7.S4, V7
	VADDV V8.S4, V8
	VADDV V9.S4, V9
	VADDV V10.S4, V10
	VADDV V11.S4, V11
	VADDV V12.S4, V12
	VADDV V13.S4, V13
	VADDV V14.S4, V14
	VADDV V15.S4, V15
	FMOVS.P F0, 4(R0)
	FMOVS.P F1, 4(R0)
	FMOVS.P F2, 4(R0)
	FMOVS.P F3, 4(R0)
	FMOVS.P F4, 4(R0)
	FMOVS.P F5, 4(R0)
	FMOVS.P F6, 4(R0)
	FMOVS.P F7, 4(R0)
	FMOVS.P F8, 4(R0)
	FMOVS.P F9, 4(R0)
	FMOVS.P F10, 4(R0)
	FMOVS.P F11, 4(R0)
	FMOVS.P F12, 4(R0)
	FMOVS.P F13, 4(R0)
	FMOVS.P F14, 4(R0)
	FMOVS.P F15, 4(R0)
	RET

// DIGITS adds the products of an output, in register w, with four digits.
#define DIGITS(w, a, b, c, d) \
	SDOT(16, w, a); \
	SDOT(17, w, b); \
	SDOT(18, w, c); \
	SDOT(19, w, d)

// COMBINE adds up the four sums of each digit of an output, and SUM the digits:
// a + 256·(b + 256·(c + 256·d)).
#define COMBINE(a, b, c, d) \
	VADDV a.S4, a; \
	VADDV b.S4, b; \
	VADDV c.S4, c; \
	VADDV d.S4, d

#define SUM(a, b, c, d) \
	FMOVS a, R6; \
	FMOVS b, R7; \
	FMOVS c, R8; \
	FMOVS d, R9; \
	SXTW  R6, R6; \
	SXTW  R7, R7; \
	SXTW  R8, R8; \
	SXTW  R9, R9; \
	ADD   R9<<8, R8, R8; \
	ADD   R8<<8, R7, R7; \
	ADD   R7<<8, R6, R6; \
	MOVD.P R6, 8(R0)

// func neonDigitSums(sums *[16]int64, panel *byte, acts *int8, stride, tiles int)
TEXT ·neonDigitSums(SB), NOSPLIT, $0-40
	MOVD sums+0(FP), R0
	MOVD panel+8(FP), R1
	MOVD stride+24(FP), R3
	MOVD $4, R10
outputs:
	MOVD acts+16(FP), R2
	MOVD tiles+32(FP), R4
	MOVD R1, R5
	ZERO16
digits:
	VLD4 (R2), [V16.B16, V17.B16, V18.B16, V19.B16]
	ADD  R3, R2
	VLD1 (R5), [V20.B16, V21.B16, V22.B16, V23.B16]
	ADD  $256, R5
	DIGITS(20, 0, 1, 2, 3)
	DIGITS(21, 4, 5, 6, 7)
	DIGITS(22, 8, 9, 10, 11)
	DIGITS(23, 12, 13, 14, 15)
	SUBS $1, R4
	BNE  digits
	COMBINE(V0, V1, V2, V3)
	SUM(F0, F1, F2, F3)
	COMBINE(V4, V5, V6, V7)
	SUM(F4, F5, F6, F7)
	COMBINE(V8, V9, V10, V11)
	SUM(F8, F9, F10, F11)
	COMBINE(V12, V13, V14, V15)
	SUM(F12, F13, F14, F15)
	ADD  $64, R1
	SUBS $1, R10
	BNE  outputs
	RET

// func neonFinish(y *[16]float32, sums *[16]int32, steps *byte, scale float32, plus int32)
TEXT ·neonFinish(SB), NOSPLIT, $0-32
	MOVD  y+0(FP), R0
	MOVD  sums+8(FP), R1
	MOVD  steps+16(FP), R2
	MOVWU scale+24(FP), R3
	MOVWU plus+28(FP), R4
	VDUP  R3, V16.S4
	VDUP  R4, V17.S4
	VLD1  (R1), [V0.S4, V1.S4, V2.S4, V3.S4]
	VLD1  (R2), [V4.H8, V5.H8]
	VLD1  (R0), [V8.S4, V9.S4, V10.S4, V11.S4]
	VADD  V0.S4, V0.S4, V0.S4
	VADD  V1.S4, V1.S4, V1.S4
	VADD  V2.S4, V2.S4, V2.S4
	VADD  V3.S4, V3.S4, V3.S4
	VADD  V17.S4, V0.S4, V0.S4
	VADD  V17.S4, V1.S4, V1.S4
	VADD  V17.S4, V2.S4, V2.S4
	VADD  V17.S4, V3.S4, V3.S4
	SCVTF(0, 0)
	SCVTF(1, 1)
	SCVTF(2, 2)
	SCVTF(3, 3)
	FCVTL(4, 20)
	FCVTL2(4, 21)
	FCVTL(5, 22)
	FCVTL2(5, 23)
	FMUL(16, 20, 20)
	FMUL(16, 21, 21)
	FMUL(16, 22, 22)
	FMUL(16, 23, 23)
	VFMLA V20.S4, V0.S4, V8.S4
	VFMLA V21.S4, V1.S4, V9.S4
	VFMLA V22.S4, V2.S4, V10.S4
	VFMLA V23.S4, V3.S4, V11.S4
	VST1  [V8.S4, V9.S4, V10.S4, V11.S4], (R0)
	RET
