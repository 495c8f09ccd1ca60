//go:build !linux

package cluster

import "time"

func setSocketUserTimeout(int, time.Duration) {}
