//go:build race

package testcluster_test

// raceDetector: everything takes several times as long.
const raceDetector = true
