//go:build !linux

package watch

import "time"

func setSocketUserTimeout(int, time.Duration) {}
