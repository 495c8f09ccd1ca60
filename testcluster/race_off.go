//go:build !race

package testcluster

// RaceDetector says whether the race detector is on.
const RaceDetector = false
