package lio

import (
	"context"
	"io"
	"net"
	"time"
)

func (l Late) listen(ctx context.Context) error {
	listener, err := net.Listen("tcp", l.Listen)
	if err != nil {
		return err
	}
	context.AfterFunc(ctx, func() { listener.Close() })
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			go l.pass(c)
		}
	}()
	return nil
}

// pass is deaf, and then joins both connections until one ends.
func (l Late) pass(c net.Conn) {
	defer c.Close()
	deaf := time.NewTimer(time.Duration(l.Seconds) * time.Second)
	<-deaf.C
	to, err := net.Dial("tcp", l.To)
	if err != nil {
		return
	}
	defer to.Close()
	ended := make(chan struct{}, 2)
	for _, way := range [][2]net.Conn{{c, to}, {to, c}} {
		go func() {
			_, _ = io.Copy(way[0], way[1])
			ended <- struct{}{}
		}()
	}
	<-ended
}
