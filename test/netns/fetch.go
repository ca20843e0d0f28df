// Looks a name up with Go's own resolver, connects to its addresses at port 80, and says hello, as fetch.c does.
package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"time"
)

func talk(address string) string {
	conn, err := net.DialTimeout("tcp", net.JoinHostPort(address, "80"), 800*time.Millisecond)
	if err != nil {
		return "timeout"
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(800 * time.Millisecond))
	if _, err := conn.Write([]byte("hello")); err != nil {
		return err.Error()
	}
	if _, err := conn.Read(make([]byte, 256)); err != nil {
		return err.Error()
	}
	return "ok"
}

func main() {
	resolver := net.Resolver{PreferGo: true}
	found, err := resolver.LookupIPAddr(context.Background(), os.Args[1])
	if err != nil {
		fmt.Println(err)
		os.Exit(2)
	}
	for _, one := range found {
		fmt.Println(one.String(), talk(one.String()))
		if len(os.Args) > 2 {
			break
		}
	}
}
