package selector

import "math/bits"

// Odd constants with as many ones as zeros: digits of π, e and √2.
const (
	mulA = 0x93c467e37db0c7a5
	mulB = 0xadf85458a2bb4a9b
	mulC = 0xb504f333f9de6485
)

// hash spreads s over 64 bits. It is the same on every host and in every
// release, because keys must find the same peer from everywhere; it is no
// defence against somebody who chooses s in order to collide. The way of it is
// Wang Yi's wyhash: fold 128-bit products, 16 bytes a step.
func hash(seed uint64, s string) uint64 {
	h, n := seed^mulA, uint64(len(s))
	for ; len(s) > 16; s = s[16:] {
		h = fold(word(s)^mulB, word(s[8:])^h)
	}
	var a, b uint64
	switch {
	case len(s) >= 8:
		a, b = word(s), word(s[len(s)-8:])
	case len(s) >= 4:
		a, b = half(s), half(s[len(s)-4:])
	case len(s) > 0:
		a = uint64(s[0])<<16 | uint64(s[len(s)/2])<<8 | uint64(s[len(s)-1])
	}
	return fold(fold(a^mulB, b^h)^n, mulC)
}

// fold multiplies to 128 bits and lays the two halves over each other.
func fold(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	return hi ^ lo
}

// word reads eight bytes; the compiler makes it one load.
func word(s string) uint64 {
	_ = s[7]
	return uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 |
		uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56
}

// half reads four.
func half(s string) uint64 {
	_ = s[3]
	return uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24
}
