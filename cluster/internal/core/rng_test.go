package core

// below returns a number in [0, n).
func (r *rng) below(n int) int { return int(r.next() % uint64(n)) }
