#!/usr/bin/env escript
%%! +S 1:1 +P 2000000
%% The cases on Erlang, on one scheduler, as Python has one; escript reads the flags above on the second line only. Called
%% as the Python programs are; `version` prints the release. A flooded process keeps its own mailbox full. An idle process
%% costs what erlang:memory(total) grows by.
-mode(compile).
-define(BURST, 1000).

main(["version"]) ->
    io:format("~s~n", [erlang:system_info(otp_release)]);
main([Case, Seconds, Number]) ->
    1 = erlang:system_info(schedulers),
    case run(Case, to_float(Seconds), list_to_integer(Number)) of
        missing -> io:format("{\"missing\": \"it has no such thing\"}~n");
        Value -> io:format("{\"value\": ~p}~n", [float(Value)])
    end.

to_float(Text) ->
    try list_to_float(Text) catch error:badarg -> float(list_to_integer(Text)) end.

run("tell", Seconds, Number) ->
    Actors = spawn_counters(Number),
    Burst = lists:append(lists:duplicate(?BURST div Number, Actors)),
    repeat(Seconds, fun(Count) ->
        tells(Count div ?BURST - 1, Burst),
        lists:foreach(fun(A) -> A ! count end, lists:nthtail(Number, Burst)),
        lists:foreach(fun(A) -> A ! {last, self()} end, Actors),
        lists:foreach(fun(_) -> receive last -> ok end end, Actors)
    end);
run("ask", Seconds, _) ->
    [Actor] = spawn_counters(1),
    repeat(Seconds, fun(Count) -> asks(Count, Actor) end);
run("ask_at_once", Seconds, Number) ->
    Actors = spawn_counters(Number),
    repeat(Seconds, fun(Count) ->
        Self = self(),
        [spawn(fun() -> asks(Count div Number, A), Self ! asked end) || A <- Actors],
        lists:foreach(fun(_) -> receive asked -> ok end end, Actors)
    end);
run("ring", Seconds, Number) ->
    Self = self(),
    Nodes = [spawn(fun() -> node_loop(Self, none) end) || _ <- lists:seq(1, Number)],
    lists:foreach(fun({A, B}) -> A ! {join, B} end, lists:zip(Nodes, tl(Nodes) ++ [hd(Nodes)])),
    repeat(Seconds, fun(Count) -> hd(Nodes) ! Count, receive home -> ok end end);
run("spawn_stop", Seconds, _) ->
    repeat(Seconds, fun(Count) -> spawns(Count div ?BURST) end);
run("memory", _, Number) ->
    erlang:garbage_collect(),
    Before = erlang:memory(total),
    Actors = spawn_counters(Number),
    ask(lists:last(Actors)),
    (erlang:memory(total) - Before) / Number;
run("memory_used", _, Number) ->
    erlang:garbage_collect(),
    Before = erlang:memory(total),
    Actors = spawn_counters(Number),
    lists:foreach(fun(A) -> A ! {last, self()} end, Actors),
    lists:foreach(fun(_) -> receive last -> ok end end, Actors),
    (erlang:memory(total) - Before) / Number;
run("restart", Seconds, _) ->
    logger:set_primary_config(level, none),
    process_flag(trap_exit, true),
    Times = restarts(spawn_link(fun() -> counter(0) end), erlang:monotonic_time(microsecond) + round(Seconds * 1.0e6), []),
    quantile(0.5, Times);
run("ping", Seconds, _) ->
    quantile(0.99, [Asked || {Asked, _} <- flooded(Seconds)]) / 1000;
run("ping_due", Seconds, _) ->
    quantile(0.99, [Due || {_, Due} <- flooded(Seconds)]) / 1000;
run(_, _, _) ->
    missing.

counter(Total) ->
    receive
        count -> counter(Total + 1);
        {total, From, Ref} -> From ! {Ref, Total}, counter(Total);
        {last, From} -> From ! last, counter(Total + 1);
        flood -> work(2600), self() ! flood, counter(Total);
        fail -> exit(as_told);
        stop -> ok
    end.

node_loop(Home, Following) ->
    receive
        {join, Node} -> node_loop(Home, Node);
        0 -> Home ! home, node_loop(Home, Following);
        Left -> Following ! (Left - 1), node_loop(Home, Following)
    end.

spawn_counters(Number) -> [spawn(fun() -> counter(0) end) || _ <- lists:seq(1, Number)].

ask(Actor) ->
    Ref = make_ref(),
    Actor ! {total, self(), Ref},
    receive {Ref, Total} -> Total end.

asks(0, _) -> ok;
asks(Count, Actor) -> ask(Actor), asks(Count - 1, Actor).

tells(0, _) -> ok;
tells(Count, Burst) -> lists:foreach(fun(A) -> A ! count end, Burst), erlang:yield(), tells(Count - 1, Burst).

spawns(0) -> ok;
spawns(Count) ->
    Refs = [begin Ref = monitor(process, A), A ! stop, Ref end || A <- spawn_counters(?BURST)],
    lists:foreach(fun(Ref) -> receive {'DOWN', Ref, process, _, _} -> ok end end, Refs),
    spawns(Count - 1).

restarts(Actor, End, Times) ->
    Start = erlang:monotonic_time(nanosecond),
    Actor ! fail,
    receive {'EXIT', Actor, _} -> ok end,
    Next = spawn_link(fun() -> counter(0) end),
    ask(Next),
    Now = erlang:monotonic_time(nanosecond),
    Took = [(Now - Start) / 1000 | Times],
    case Now div 1000 < End of true -> restarts(Next, End, Took); false -> Took end.

flooded(Seconds) ->
    [Idle | Busy] = spawn_counters(101),
    [A ! flood || A <- Busy, _ <- lists:seq(1, 100)],
    timer:sleep(10),
    pings(Idle, erlang:monotonic_time(microsecond) + round(2.0e6 * Seconds), []).

pings(Idle, End, Times) ->
    Due = erlang:monotonic_time(microsecond) + 1000,
    timer:sleep(1),
    Asked = erlang:monotonic_time(microsecond),
    ask(Idle),
    Now = erlang:monotonic_time(microsecond),
    Took = [{Now - Asked, Now - Due} | Times],
    case Now < End of true -> pings(Idle, End, Took); false -> Took end.

work(0) -> ok;
work(Count) -> work(Count - 1).

quantile(Share, Times) -> lists:nth(1 + trunc(Share * (length(Times) - 1)), lists:sort(Times)).

repeat(Seconds, Body) -> repeat(Seconds, ?BURST, Body).
repeat(Seconds, Count, Body) ->
    Start = erlang:monotonic_time(nanosecond),
    Body(Count),
    Elapsed = (erlang:monotonic_time(nanosecond) - Start) / 1.0e9,
    case Elapsed >= Seconds of
        true -> Count / Elapsed;
        false ->
            Growth = min(10.0, max(1.5, 1.2 * Seconds / Elapsed)),
            repeat(Seconds, trunc(Count * Growth) div ?BURST * ?BURST + ?BURST, Body)
    end.
