//go:build race

package testcluster

// RaceDetector says that everything takes several times as long.
const RaceDetector = true
