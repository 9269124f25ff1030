// Tells the type checker that style sheets may be imported: esbuild puts them into the page.
//
// What enters and leaves: nothing. Promised: nothing but that they exist. Absent: names of classes.
declare module "*.css";
