package core

import (
	"os"
	"strconv"
	"testing"
	"time"
)

// The tests take some seconds by default. By the environment they look further:
//
//	PEER_TEST_LONG=1     300 members, random faults for 10,000,000 steps, walks of
//	                     two minutes each
//	PEER_SIM_STEPS=5e6   how many inputs all cores of the random faults take in
//	PEER_SIM_SEED=42     the first seed of the random faults and of the figures
//	PEER_WALK=1m         how long each walk takes
//	PEER_SIM_FIGURES=20  plays each scenario with so many seeds, and writes figures
//	PEER_SIM_ONLY=rapid  those scenarios alone whose names have this in them
//	PEER_SIM_LOG=1       with -v: writes all that happens in a scenario
//
// The race detector finds nothing in what has one goroutine, and slows it tenfold:
// under it the walk and all that is large are left out.
func long() bool { return os.Getenv("PEER_TEST_LONG") != "" }

// steps returns how many inputs the random faults take in, and their first seed.
func steps() (n, seed uint64) {
	switch {
	case long():
		n = 10_000_000
	case raceDetector:
		n = 20_000
	default:
		n = 400_000
	}
	if v, err := strconv.ParseFloat(os.Getenv("PEER_SIM_STEPS"), 64); err == nil {
		n = uint64(v)
	}
	return n, max(firstSeed(), 1)
}

// firstSeed is 0 if none is asked for.
func firstSeed() uint64 {
	seed, _ := strconv.ParseUint(os.Getenv("PEER_SIM_SEED"), 10, 64)
	return seed
}

// walkFor returns how long a walk takes.
func walkFor(t *testing.T) time.Duration {
	if s := os.Getenv("PEER_WALK"); s != "" {
		d, err := time.ParseDuration(s)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	switch {
	case long():
		return 2 * time.Minute
	case raceDetector:
		t.Skip("the race detector slows it tenfold, and there is one goroutine")
	}
	return time.Second
}
